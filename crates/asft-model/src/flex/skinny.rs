//! Products of a few rows with a weight that lies as Hugging Face stores it, as generation makes them at every
//! token: the weight is read once, row by row, and never packed.
//!
//! An element's sum is made in an order that depends on the inner dimension alone, so a row of the result is the
//! same whatever rows stand beside it.

use rayon::prelude::*;

use super::simd;

/// Most rows for which this is faster than a packed product.
pub const MOST_ROWS: usize = 16;

/// Partial sums of an element that are kept side by side.
const LANES: usize = 8;
/// Rows of the weight that one task works on.
const TASK: usize = 32;

/// `x Wᵀ` for `x` of `rows` rows and `weight` `[out, inner]`, as `[rows, out]`.
pub fn product(x: &[f32], rows: usize, weight: &[f32], inner: usize) -> Vec<f32> {
    let columns = weight.len() / inner;
    assert_eq!((x.len(), weight.len()), (rows * inner, columns * inner), "operands of a product");
    // By column of the result, since tasks own columns.
    let mut by_column = vec![0.0; rows * columns];
    by_column.par_chunks_mut(TASK * rows).zip(weight.par_chunks(TASK * inner)).for_each(|(out, weight)| {
        simd::vectorized(
            #[inline(always)]
            || {
                let mut weights = weight.chunks(4 * inner);
                let mut outs = out.chunks_mut(4 * rows);
                while let (Some(weight), Some(out)) = (weights.next(), outs.next()) {
                    match weight.len() / inner {
                        4 => columns_of::<4>(x, weight, inner, out),
                        _ => {
                            let parts = weight.chunks_exact(inner).zip(out.chunks_exact_mut(rows));
                            parts.for_each(|(weight, out)| columns_of::<1>(x, weight, inner, out));
                        }
                    }
                }
            },
        );
    });
    if rows == 1 {
        return by_column;
    }
    let mut out = vec![0.0; rows * columns];
    for (row, out) in out.chunks_exact_mut(columns).enumerate() {
        for (column, out) in out.iter_mut().enumerate() {
            *out = by_column[column * rows + row];
        }
    }
    out
}

/// `C` columns of the result, each contiguous in `out`.
#[inline(always)]
fn columns_of<const C: usize>(x: &[f32], weight: &[f32], inner: usize, out: &mut [f32]) {
    let rows = x.len() / inner;
    let mut row = 0;
    while row + 2 <= rows {
        block::<2, C>(&x[row * inner..], weight, inner, |i, j, sum| out[j * rows + row + i] = sum);
        row += 2;
    }
    if row < rows {
        block::<1, C>(&x[row * inner..], weight, inner, |i, j, sum| out[j * rows + row + i] = sum);
    }
}

/// Sums of `R` rows of `x` with `C` rows of `weight`.
#[inline(always)]
fn block<const R: usize, const C: usize>(
    x: &[f32],
    weight: &[f32],
    inner: usize,
    mut put: impl FnMut(usize, usize, f32),
) {
    let x: [&[f32]; R] = std::array::from_fn(|i| &x[i * inner..][..inner]);
    let weight: [&[f32]; C] = std::array::from_fn(|j| &weight[j * inner..][..inner]);
    let mut sums = [[[0.0f32; LANES]; C]; R];
    let whole = inner / LANES * LANES;
    let mut at = 0;
    while at < whole {
        let lanes = |row: &[f32]| -> [f32; LANES] { row[at..at + LANES].try_into().expect("as many") };
        let x: [[f32; LANES]; R] = std::array::from_fn(|i| lanes(x[i]));
        for j in 0..C {
            let weight = lanes(weight[j]);
            for i in 0..R {
                for lane in 0..LANES {
                    sums[i][j][lane] = x[i][lane].mul_add(weight[lane], sums[i][j][lane]);
                }
            }
        }
        at += LANES;
    }
    for i in 0..R {
        for j in 0..C {
            let [a, b, c, d, e, f, g, h] = sums[i][j];
            let rest = x[i][whole..].iter().zip(&weight[j][whole..]);
            let sum = ((a + e) + (c + g)) + ((b + f) + (d + h));
            put(i, j, rest.fold(sum, |sum, (x, weight)| x.mul_add(*weight, sum)));
        }
    }
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
