//! A product of two strided matrices of f32 on one thread, by the fastest library there is for the processor.
//!
//! On x86-64 with AVX2 or AVX-512 that is faer's kernel, elsewhere the crate that Flex itself multiplies with. With faer's
//! kernel most large products are up to 20% faster, those of attention's size 20 to 30% (docs/log.md, 2026-11-27). It sums
//! an element in an order that depends on the inner dimension alone; the other's depends on the product's size too.
#![allow(unsafe_code)]

use super::{Destination, Factor, Into, Matrix};

impl Factor<f32> for f32 {
    fn has_instruction() -> bool {
        true
    }

    fn parts() -> usize {
        #[cfg(target_arch = "x86_64")]
        if !x86::instructions().is_empty() {
            return rayon::current_num_threads();
        }
        16
    }

    unsafe fn multiply(to: Destination, into: Into, lhs: Matrix<'_>, rhs: Matrix<'_>) {
        #[cfg(target_arch = "x86_64")]
        if let Some(&instructions) = x86::instructions().first() {
            // SAFETY: the processor has the instructions, and the caller answers for the rest.
            return unsafe { x86::multiply(instructions, to, into, lhs, rhs) };
        }
        // SAFETY: as the caller promises.
        unsafe { portable(to, into, lhs, rhs) }
    }
}

/// [`Factor::multiply`] on any processor.
unsafe fn portable(to: Destination, into: Into, lhs: Matrix<'_>, rhs: Matrix<'_>) {
    // SAFETY: both operands lie within their buffers, since only `super` makes a `Matrix` and sees to it; the caller
    // answers for the destination.
    unsafe {
        gemm::gemm(
            lhs.rows,
            rhs.columns,
            lhs.columns,
            to.data,
            1,
            to.stride as isize,
            into == Into::Add,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            1.0,
            to.factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::ptr;

    use private_gemm_x86::{Accum, DType, DstKind, IType, InstrSet, gemm};
    use pulp::x86::{V3, V4};

    use super::{Destination, Into, Matrix};

    /// What the processor has of the vectors that the kernel is written for, widest first.
    pub fn instructions() -> &'static [InstrSet] {
        match (V4::is_available(), V3::is_available()) {
            (true, true) => &[InstrSet::Avx512, InstrSet::Avx256],
            (false, true) => &[InstrSet::Avx256],
            (_, false) => &[],
        }
    }

    /// See [`super::Factor::multiply`]; the processor must have `instructions`.
    pub unsafe fn multiply(
        instructions: InstrSet,
        to: Destination,
        into: Into,
        lhs: Matrix<'_>,
        rhs: Matrix<'_>,
    ) {
        let accumulate = match into {
            Into::Replace => Accum::Replace,
            Into::Add => Accum::Add,
        };
        // SAFETY: as for `super::portable`. No rows or columns are looked up, and nothing lies on a diagonal.
        unsafe {
            gemm(
                DType::F32,
                IType::U64,
                instructions,
                lhs.rows,
                rhs.columns,
                lhs.columns,
                to.data.cast(),
                to.stride as isize,
                1,
                ptr::null(),
                ptr::null(),
                DstKind::Full,
                accumulate,
                lhs.data.as_ptr().cast(),
                lhs.row_stride as isize,
                lhs.column_stride as isize,
                false,
                ptr::null(),
                0,
                rhs.data.as_ptr().cast(),
                rhs.row_stride as isize,
                rhs.column_stride as isize,
                false,
                (&raw const to.factor).cast(),
                1,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEMM: &str = "gemm";

    /// `0.5 lhs rhs` added to a destination of 2s whose rows have a column more, by a library.
    type Run = Box<dyn Fn(Matrix<'_>, Matrix<'_>, Into) -> Vec<f32>>;

    /// Every library and set of vectors that this processor can run, by name; gemm first.
    fn libraries() -> Vec<(String, Run)> {
        fn run(multiply: impl Fn(Destination, Into, Matrix<'_>, Matrix<'_>) + 'static) -> Run {
            Box::new(move |lhs, rhs, into| {
                let stride = rhs.columns + 1;
                let mut out = vec![2.0; lhs.rows * stride];
                multiply(Destination { data: out.as_mut_ptr(), stride, factor: 0.5 }, into, lhs, rhs);
                out
            })
        }
        // SAFETY: here and below `run`'s destination has room for the product, and the processor has the instructions.
        let mut libraries =
            vec![(GEMM.into(), run(|to, into, lhs, rhs| unsafe { portable(to, into, lhs, rhs) }))];
        #[cfg(target_arch = "x86_64")]
        for &set in x86::instructions() {
            let multiply = move |to, into, lhs: Matrix<'_>, rhs: Matrix<'_>| unsafe {
                x86::multiply(set, to, into, lhs, rhs)
            };
            libraries.push((format!("{set:?}"), run(multiply)));
        }
        libraries
    }

    #[test]
    fn every_library_gives_the_product_and_faers_gives_a_part_the_bits_of_the_whole() {
        let numbers = |count: usize| -> Vec<f32> { (0..count).map(|i| (i as f32 * 0.37).sin()).collect() };
        for (name, run) in libraries() {
            for [m, k, n] in [[1, 1, 1], [7, 1, 5], [37, 700, 50], [150, 33, 131], [20, 3000, 70]] {
                // Rows are three longer than they need be.
                let (a, b) = (numbers((m + 3) * (k + 3)), numbers((k + 3) * (n + 3)));
                for [left, right] in [[false, false], [false, true], [true, false], [true, true]] {
                    let matrix = |data, transposed, [rows, columns]: [usize; 2]| match transposed {
                        true => Matrix::new(data, [columns, rows], rows + 3).transpose(),
                        false => Matrix::new(data, [rows, columns], columns + 3),
                    };
                    let (lhs, rhs) = (matrix(&a, left, [m, k]), matrix(&b, right, [k, n]));
                    let at = |matrix: Matrix<'_>, i, j| {
                        f64::from(matrix.data[i * matrix.row_stride + j * matrix.column_stride])
                    };
                    let (whole, replaced) = (run(lhs, rhs, Into::Add), run(lhs, rhs, Into::Replace));
                    let wide = n + 1;
                    for i in 0..m {
                        assert_eq!((whole[i * wide + n], replaced[i * wide + n]), (2.0, 2.0), "{name}");
                        for j in 0..n {
                            let terms = || (0..k).map(|l| at(lhs, i, l) * at(rhs, l, j) / 2.0);
                            let (expected, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                            let got = [whole[i * wide + j] - 2.0, replaced[i * wide + j]].map(f64::from);
                            assert!(
                                got.iter().all(|got| (got - expected).abs() < 1e-6 * (2.0 + size)),
                                "{name}, {m} x {k} x {n}: {got:?} at {i}, {j}, not {expected}"
                            );
                        }
                    }
                    if name == GEMM {
                        continue;
                    }
                    let (row, column) = (m / 3, n / 2);
                    let part = run(lhs.rows(row, 17), rhs.columns(column, 23), Into::Add);
                    let (rows, columns) = (17.min(m - row), 23.min(n - column));
                    for i in 0..rows {
                        let from = (row + i) * wide + column;
                        assert_eq!(
                            part[i * (columns + 1)..][..columns],
                            whole[from..from + columns],
                            "{name}, {m} x {k} x {n}"
                        );
                    }
                }
            }
        }
    }
}
