//! Arithmetic on slices, written plainly and compiled for the widest vectors the processor has.

use pulp::Arch;

use super::Number;

/// Runs `body` compiled for the processor's vectors. What `body` calls must be inlined into it.
#[inline(always)]
pub fn vectorized<R>(body: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(body)
}

/// Partial sums or maxima that are kept side by side.
const LANES: usize = 32;

/// `e^x` within two units in the last place; below -87 the smallest normal number, above 88 `e^88`.
///
/// `x = n ln 2 + r` with `|r| ≤ ln 2 / 2`, so that `e^x = 2ⁿ e^r` and the Taylor series of `e^r` to the seventh
/// power leaves an error of 5e-9. ln 2 is split so that `n ln 2` is exact to its low part.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 · 2²³ leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut series = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + coefficient;
    }
    series * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Sum of `term(i)` for the indices of a slice of `length`.
#[inline(always)]
fn sum_of(length: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let whole = length / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    let rest: f32 = (whole..length).map(&term).sum();
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0] + rest
}

#[inline(always)]
pub fn dot<A: Number, B: Number>(a: &[A], b: &[B]) -> f32 {
    let b = &b[..a.len()];
    sum_of(a.len(), |i| a[i].get() * b[i].get())
}

/// Sum of the products of three slices.
#[inline(always)]
pub fn dot_3<T: Number>(a: &[T], b: &[T], c: &[T]) -> f32 {
    let (b, c) = (&b[..a.len()], &c[..a.len()]);
    sum_of(a.len(), |i| a[i].get() * b[i].get() * c[i].get())
}

/// The largest of `values`; NaN does not count. `f32::MIN` where there is none.
#[inline(always)]
pub fn max<T: Number>(values: &[T]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::MIN; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder().iter().map(|value| value.get()).fold(f32::MIN, larger);
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, value.get());
        }
    }
    lanes.into_iter().fold(rest, larger)
}

/// Replaces each value by `e^(value - shift)` and returns their sum.
#[inline(always)]
pub fn exp_in_place(values: &mut [f32], shift: f32) -> f32 {
    for value in values.iter_mut() {
        *value = exp(*value - shift);
    }
    sum_of(values.len(), |i| values[i])
}

/// Sum of `e^(value - shift)`.
#[inline(always)]
pub fn sum_exp<T: Number>(values: &[T], shift: f32) -> f32 {
    sum_of(values.len(), |i| exp(values[i].get() - shift))
}

#[inline(always)]
pub fn scale(values: &mut [f32], factor: f32) {
    for value in values {
        *value *= factor;
    }
}

#[inline(always)]
pub fn add<T: Number>(sum: &mut [f32], values: &[T]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value.get();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let steps = 2_000_000;
        for step in 0..=steps {
            let x = -87.0 + 175.0 * step as f32 / steps as f32;
            let (got, expected) = (vectorized(|| exp(x)), f64::from(x).exp());
            let error = (f64::from(got) - expected).abs() / expected;
            assert!(error < 2.4e-7, "exp({x}) = {got:e}, not {expected:e}: off by {error:e}");
        }
    }

    #[test]
    fn exp_beyond_its_range_is_finite_and_nan_stays() {
        assert!(exp(f32::NEG_INFINITY) < 2e-38 && exp(-1e30) >= 0.0);
        assert!(exp(f32::INFINITY).is_finite() && exp(1e30) > 1e38);
        assert!(exp(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
        assert_eq!((exp(0.0), sigmoid(0.0)), (1.0, 0.5));
    }

    #[test]
    fn reductions_take_every_element() {
        for length in [0, 1, LANES - 1, LANES, LANES + 1, 5 * LANES + 7] {
            let values: Vec<f32> = (0..length).map(|i| (i % 7) as f32 - 3.0).collect();
            let sum = |term: &dyn Fn(f32) -> f32| values.iter().map(|&v| term(v)).sum::<f32>();
            // Small integers: exact in any order.
            vectorized(|| {
                assert_eq!(dot(&values, &values), sum(&|v| v * v));
                assert_eq!(dot_3(&values, &values, &values), sum(&|v| v * v * v));
                assert_eq!(max(&values), values.iter().copied().fold(f32::MIN, f32::max));
            });
            let mut weights = values.clone();
            let total = vectorized(|| exp_in_place(&mut weights, 1.0));
            assert!((total - sum(&|v| (v - 1.0).exp())).abs() <= 1e-5 * total, "{length}");
            assert!((vectorized(|| sum_exp(&values, 1.0)) - total).abs() <= 1e-5 * total, "{length}");
        }
    }
}
