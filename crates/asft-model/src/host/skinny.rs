//! Products of a few rows with a weight that lies as Hugging Face stores it, as generation makes them at every
//! token: the weight is read once, row by row, and never packed.
//!
//! An element's sum is made in an order that depends on the inner dimension alone, so a row of the result is the
//! same whatever rows stand beside it.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Number;

/// Most rows for which this is faster than a packed product.
pub const MOST_ROWS: usize = 16;

/// Rows of the weight that one task works on.
const TASK: usize = 32;
/// Rows of the weight that meet rows of `x` at a time: their sums stay in registers.
const COLUMNS: usize = 4;

/// `x Wᵀ` for `x` of `rows` rows and `weight` `[out, inner]`, as `[rows, out]`.
pub fn product<T: Number>(x: &[T], rows: usize, weight: &[T], inner: usize) -> Vec<T> {
    let columns = weight.len() / inner;
    assert_eq!((x.len(), weight.len()), (rows * inner, columns * inner), "operands of a product");
    let mut wide = vec![];
    let x = T::wide(x, &mut wide);
    // By column of the result, since tasks own columns.
    let mut by_column = T::zeros(rows * columns);
    by_column
        .par_chunks_mut(TASK * rows)
        .zip(weight.par_chunks(TASK * inner))
        .for_each(|(out, weight)| Arch::new().dispatch(Task { x, weight, inner, out }));
    if rows == 1 {
        return by_column;
    }
    let mut out = T::zeros(rows * columns);
    for (row, out) in out.chunks_exact_mut(columns).enumerate() {
        for (column, out) in out.iter_mut().enumerate() {
            *out = by_column[column * rows + row];
        }
    }
    out
}

/// Some columns of the result, each contiguous in `out`.
struct Task<'a, T> {
    x: &'a [f32],
    weight: &'a [T],
    inner: usize,
    out: &'a mut [T],
}

impl<T: Number> WithSimd for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, weight, inner, out } = self;
        let rows = x.len() / inner;
        let mut column = 0;
        let mut wide = vec![];
        for weight in weight.chunks(COLUMNS * inner) {
            let out = &mut out[column * rows..];
            let count = weight.len() / inner;
            // Only the first rows of `x` wait for memory, the others find the weight in the cache. So while those
            // are worked on, each pair fetches a row of what comes next.
            let mut next = weight.as_ptr_range().end;
            let weight = T::wide(weight, &mut wide);
            for row in (0..rows).step_by(2) {
                let x = &x[row * inner..];
                let block = Block { x, weight, inner, next: next.cast(), stride: rows };
                let out = &mut out[row..];
                match (rows - row > 1, count == COLUMNS) {
                    (true, true) => block.sums::<S, T, 2, COLUMNS>(simd, out),
                    (false, true) => block.sums::<S, T, 1, COLUMNS>(simd, out),
                    (pair, false) => {
                        for (j, weight) in weight.chunks_exact(inner).enumerate() {
                            let block = Block { weight, ..block };
                            match pair {
                                true => block.sums::<S, T, 2, 1>(simd, &mut out[j * rows..]),
                                false => block.sums::<S, T, 1, 1>(simd, &mut out[j * rows..]),
                            }
                        }
                    }
                }
                next = next.wrapping_add(inner);
            }
            column += count;
        }
    }
}

/// Rows of `x` that meet rows of `weight`.
#[derive(Clone, Copy)]
struct Block<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    inner: usize,
    /// As many values from here on are wanted soon; it may point anywhere.
    next: *const f32,
    /// Rows of the result.
    stride: usize,
}

impl Block<'_> {
    /// Sums of `R` rows of `x` with `C` rows of `weight`: that of rows i and j goes to `out[j · stride + i]`.
    #[inline(always)]
    fn sums<S: Simd, T: Number, const R: usize, const C: usize>(self, simd: S, out: &mut [T]) {
        let Self { x, weight, inner, next, stride } = self;
        let mut xs: [(&[S::f32s], &[f32]); R] = [(&[], &[]); R];
        for (i, x) in x.chunks_exact(inner).take(R).enumerate() {
            xs[i] = S::as_simd_f32s(x);
        }
        let mut weights: [(&[S::f32s], &[f32]); C] = [(&[], &[]); C];
        for (j, weight) in weight.chunks_exact(inner).take(C).enumerate() {
            weights[j] = S::as_simd_f32s(weight);
        }
        // All of one length, which spares the checks.
        let vectors = xs[0].0.len();
        let (heads, weight_heads) = (xs.map(|x| &x.0[..vectors]), weights.map(|weight| &weight.0[..vectors]));
        let mut sums = [[simd.splat_f32s(0.0); C]; R];
        for at in 0..vectors {
            fetch(next.wrapping_add(at * S::F32_LANES));
            for j in 0..C {
                let weight = weight_heads[j][at];
                for i in 0..R {
                    sums[i][j] = simd.mul_add_e_f32s(heads[i][at], weight, sums[i][j]);
                }
            }
        }
        for i in 0..R {
            for j in 0..C {
                let rest = xs[i].1.iter().zip(weights[j].1);
                out[j * stride + i] =
                    T::put(rest.fold(simd.reduce_sum_f32s(sums[i][j]), |sum, (x, weight)| sum + x * weight));
            }
        }
    }
}

/// Asks the processor to bring the cache line of `address` near, where there is a way to.
#[inline(always)]
fn fetch(address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "a hint that reads nothing")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: nothing is read, so any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(length: usize, seed: usize) -> Vec<f32> {
        (0..length).map(|i| (((i * 7919 + seed) % 1009) as f32 / 504.5) - 1.0).collect()
    }

    #[test]
    fn every_element_is_its_sum_of_products() {
        for (rows, inner, columns) in [(1, 64, 70), (2, 8, 4), (3, 37, 33), (8, 100, 41), (16, 7, 3)] {
            let (x, weight) = (values(rows * inner, 1), values(columns * inner, 5));
            let out = product(&x, rows, &weight, inner);
            for row in 0..rows {
                for column in 0..columns {
                    let exact: f64 = (0..inner)
                        .map(|k| f64::from(x[row * inner + k]) * f64::from(weight[column * inner + k]))
                        .sum();
                    let got = f64::from(out[row * columns + column]);
                    assert!(
                        (got - exact).abs() < 1e-5 * inner as f64,
                        "{rows} {inner} {columns}: {got} {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let (inner, columns) = (67, 50);
        let (x, weight) = (values(7 * inner, 3), values(columns * inner, 4));
        let together = product(&x, 7, &weight, inner);
        for row in 0..7 {
            let alone = product(&x[row * inner..][..inner], 1, &weight, inner);
            assert_eq!(alone, together[row * columns..][..columns], "row {row}");
        }
    }
}
