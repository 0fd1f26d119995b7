//! Products of matrices that lie in larger buffers.
#![allow(unsafe_code)]

mod bf16;
mod kernel;

use rayon::prelude::*;

use super::{Number, skinny};

/// Multiplications below which a product stays on one thread.
const SMALL: usize = 1 << 21;
/// Rows and columns of a part of a product are multiples of this: an AVX-512 vector of f32.
const ALIGNMENT: usize = 16;

/// A matrix in a buffer: element `(i, j)` lies at `i · row_stride + j · column_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T = f32> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// `rows` rows of `columns` elements, `stride` apart, from the start of `data`.
    pub fn new(data: &'a [T], [rows, columns]: [usize; 2], stride: usize) -> Self {
        let matrix = Self { data, rows, columns, row_stride: stride, column_stride: 1 };
        assert!(matrix.end() <= data.len(), "{rows} rows of {columns} do not lie in {}", data.len());
        matrix
    }

    pub fn transpose(self) -> Self {
        let Self { data, rows, columns, row_stride, column_stride } = self;
        Self { data, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }

    /// Rows from `start` on, at most `count`.
    fn rows(self, start: usize, count: usize) -> Self {
        Self { data: &self.data[start * self.row_stride..], rows: count.min(self.rows - start), ..self }
    }

    /// Columns from `start` on, at most `count`.
    fn columns(self, start: usize, count: usize) -> Self {
        self.transpose().rows(start, count).transpose()
    }

    /// Whether it lies row by row and is all of its buffer.
    fn is_whole(&self) -> bool {
        let Self { data, rows, columns, row_stride, column_stride } = *self;
        column_stride == 1 && row_stride == columns && data.len() == rows * columns
    }

    /// One past the last element, counted from the start of the buffer.
    fn end(&self) -> usize {
        match self.rows == 0 || self.columns == 0 {
            true => 0,
            false => (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1,
        }
    }
}

/// Who computes a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    One,
    All,
}

/// What becomes of the destination's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    Replace,
    Add,
}

/// Numbers that are multiplied with one another, into numbers of type `D`. Products are summed in f32.
pub trait Factor<D>: Number {
    /// Whether the processor multiplies such numbers as they are; else they are widened first.
    fn has_instruction() -> bool;

    /// Parts that a large product is cut into: as many as there are threads where a part has the bits of the whole, else
    /// always the same, so that a product's bits depend on its shape alone.
    fn parts() -> usize;

    /// [`product`] on one thread.
    ///
    /// # Safety
    /// `lhs.rows` rows of `rhs.columns` elements, `to.stride` apart from `to.data` on, must be writable, and for
    /// [`Into::Add`] initialised, and overlap neither each other nor the operands. They are written only where the inner
    /// dimension is at least 1.
    unsafe fn multiply(to: Destination<D>, into: Into, lhs: Matrix<'_, Self>, rhs: Matrix<'_, Self>);
}

/// Writes `factor · lhs rhs` to the matrix that lies row by row, `stride` apart, at the start of `data`, or
/// adds it there.
pub fn product<T: Factor<D>, D: Number>(
    data: &mut [D],
    stride: usize,
    into: Into,
    factor: f32,
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
    threads: Threads,
) {
    let [m, n] = [lhs.rows, rhs.columns];
    assert_eq!(rhs.rows, lhs.columns, "inner dimensions of a product");
    assert!(lhs.columns > 0 || into == Into::Add, "an empty sum would leave the destination as it was");
    assert!(n <= stride, "rows of a destination overlap");
    Matrix::new(data, [m, n], stride);
    let to = Destination { data: data.as_mut_ptr(), stride, factor };
    // SAFETY: the destination was just seen to lie in `data`, which is borrowed alone; its rows do not overlap.
    unsafe { multiply(to, into, lhs, rhs, threads) }
}

/// Writes `to.factor · lhs rhs` or adds it. All threads share it out in parts as square as they can be, and how many
/// they are does not change its bits.
///
/// # Safety
/// As for [`Factor::multiply`].
unsafe fn multiply<T: Factor<D>, D: Number>(
    to: Destination<D>,
    into: Into,
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
    threads: Threads,
) {
    let [m, n] = [lhs.rows, rhs.columns];
    if threads == Threads::One || m * n * lhs.columns < SMALL {
        // SAFETY: as the caller promises.
        return unsafe { T::multiply(to, into, lhs, rhs) };
    }
    let parts = T::parts();
    let by_rows = ((parts * m) as f64 / n as f64).sqrt().round().clamp(1.0, parts as f64) as usize;
    let part = |whole: usize, parts: usize| whole.div_ceil(parts).next_multiple_of(ALIGNMENT);
    let [rows, columns] = [part(m, by_rows), part(n, parts.div_ceil(by_rows))];
    let parts_of_a_row = n.div_ceil(columns);
    (0..m.div_ceil(rows) * parts_of_a_row).into_par_iter().with_max_len(1).for_each(|part| {
        let [row, column] = [part / parts_of_a_row * rows, part % parts_of_a_row * columns];
        let (lhs, rhs) = (lhs.rows(row, rows), rhs.columns(column, columns));
        // SAFETY: as the caller promises, since parts lie apart and within the whole.
        unsafe { T::multiply(to.at(row, column), into, lhs, rhs) }
    });
}

/// Where a product is written and what it is multiplied by. It need not be initialised where it is replaced.
#[derive(Clone, Copy)]
pub struct Destination<D = f32> {
    data: *mut D,
    /// Elements from a row to the next.
    stride: usize,
    factor: f32,
}

// SAFETY: whoever writes through it answers for where.
unsafe impl<D> Send for Destination<D> {}
// SAFETY: as above.
unsafe impl<D> Sync for Destination<D> {}

impl<D> Destination<D> {
    /// # Safety
    /// The element must lie within the buffer.
    unsafe fn at(self, row: usize, column: usize) -> Self {
        // SAFETY: as the caller promises.
        Self { data: unsafe { self.data.add(row * self.stride + column) }, ..self }
    }
}

/// `lhs rhs`, row by row.
pub fn new_product<T: Factor<T>>(lhs: Matrix<'_, T>, rhs: Matrix<'_, T>) -> Vec<T> {
    let [rows, columns] = [lhs.rows, rhs.columns];
    assert_eq!(rhs.rows, lhs.columns, "inner dimensions of a product");
    if lhs.columns == 0 {
        return T::zeros(rows * columns);
    }
    if rows <= skinny::MOST_ROWS && lhs.is_whole() && rhs.transpose().is_whole() {
        return skinny::product(lhs.data, rows, rhs.data, lhs.columns);
    }
    let mut out = Vec::with_capacity(rows * columns);
    let to = Destination { data: out.as_mut_ptr(), stride: columns, factor: 1.0 };
    // SAFETY: the buffer has room for the product, which is written whole before its length is set.
    unsafe {
        multiply(to, Into::Replace, lhs, rhs, Threads::All);
        out.set_len(rows * columns);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_matrices_in_larger_buffers() {
        // Two rows of three, and three of two, both in rows of four.
        let buffer: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let a = Matrix::new(&buffer, [2, 3], 4);
        let b = Matrix::new(&buffer[1..], [3, 2], 4);
        let mut out = vec![100.0; 6];
        let one = Threads::One;
        product(&mut out, 3, Into::Replace, 2.0, a, b, one);
        // a = [[0, 1, 2], [4, 5, 6]], b = [[1, 2], [5, 6], [9, 10]].
        assert_eq!(out, [46.0, 52.0, 100.0, 166.0, 196.0, 100.0]);
        product(&mut out, 3, Into::Add, 1.0, a, b, one);
        assert_eq!(out, [69.0, 78.0, 100.0, 249.0, 294.0, 100.0]);
        product(&mut out, 3, Into::Replace, 1.0, b.transpose(), a.transpose(), one);
        assert_eq!(out, [23.0, 83.0, 100.0, 26.0, 98.0, 100.0]);
    }

    #[test]
    fn a_product_in_parts_has_the_bits_of_the_whole() {
        let numbers = |count: usize| -> Vec<f32> { (0..count).map(|i| (i as f32 * 0.37).sin()).collect() };
        for (m, k, n, pool) in [(150, 600, 131, 2), (37, 700, 200, 3), (400, 90, 64, 8), (33, 70, 1000, 5)] {
            let (a, b) = (numbers(m * k), numbers(k * n));
            for transposed in [false, true] {
                let lhs = Matrix::new(&a, [m, k], k);
                let rhs = match transposed {
                    true => Matrix::new(&b, [n, k], k).transpose(),
                    false => Matrix::new(&b, [k, n], n),
                };
                let run = |threads| {
                    // One column more, which stays as it is.
                    let mut out = vec![2.0; m * (n + 1)];
                    product(&mut out, n + 1, Into::Add, 0.5, lhs, rhs, threads);
                    out
                };
                assert!(m * k * n >= SMALL, "not in parts");
                let [whole, parts] = [1, pool].map(|threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    pool.install(|| run(Threads::All))
                });
                assert_eq!(whole, parts, "{m} x {k} x {n}");
                for (i, j) in [(0, 0), (m - 1, n - 1), (m / 2, n / 3)] {
                    let column = |l: usize| if transposed { b[j * k + l] } else { b[l * n + j] };
                    let sum: f64 = (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(column(l))).sum();
                    let got = f64::from(whole[i * (n + 1) + j]);
                    assert!((got - 2.0 - sum / 2.0).abs() < 1e-4, "{got}, not {}", 2.0 + sum / 2.0);
                }
                assert!((0..m).all(|i| whole[i * (n + 1) + n] == 2.0));
            }
        }
    }

    #[test]
    fn a_matrix_must_lie_in_its_buffer() {
        let made = |length: usize| {
            let buffer = vec![0.0; length];
            std::panic::catch_unwind(|| Matrix::new(&buffer, [2, 4], 5).end()).ok()
        };
        assert_eq!((made(8), made(9)), (None, Some(9)));
    }
}
