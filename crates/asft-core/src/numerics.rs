//! Scalar functions of log-probabilities in forms that stay exact in `f64` over the whole range.
//!
//! Notation: `p = e^{-a}` is a probability given by its negative logarithm `a`, `q = 1 - p` its complement.
//! Near `p = 1` the plain `log(1 - p)` loses every digit and then becomes infinite; the guarded functions
//! continue it below `eps` by its tangent at `eps`, which is finite, once differentiable, and keeps its sign.

use std::f64::consts::LN_2;

/// Where the guard of the log-odds begins unless an objective says otherwise: below it the `f32` log-softmax
/// that produced the log-probability is itself noise.
pub const DEFAULT_EPS: f64 = 1e-4;

/// `log(1 + e^x) = -log σ(-x)`.
#[must_use]
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `σ(x) = 1 / (1 + e^{-x})`. For `1 - σ(x)` call `sigmoid(-x)`: the difference cancels.
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// `S(x) = (1-ε)·sp(-x) + ε·sp(x)`, the logistic loss of a label that is wrong with probability ε, and its slope.
#[must_use]
pub fn smoothed(x: f64, eps: f64) -> (f64, f64) {
    ((1.0 - eps) * softplus(-x) + eps * softplus(x), eps * sigmoid(x) - (1.0 - eps) * sigmoid(-x))
}

/// `g(a) = -log(1 - e^{-a})`, the negative log-likelihood of the complement; infinite at `a = 0`.
///
/// Below `ln 2` the difference `1 - e^{-a}` cancels, above it its logarithm does: each branch avoids one.
#[must_use]
pub fn complement_nll(a: f64) -> f64 {
    if a < LN_2 { -(-(-a).exp_m1()).ln() } else { -(-(-a).exp()).ln_1p() }
}

/// `g(a)` for `a >= eps`, its tangent at `eps` below, also for negative `a` (a sum of log-probs may round
/// to just above zero).
#[must_use]
pub fn guarded_complement_nll(a: f64, eps: f64) -> f64 {
    if a >= eps { complement_nll(a) } else { complement_nll(eps) - guarded_odds(a, eps) * (a - eps) }
}

/// `k(a) = 1 / expm1(max(a, eps))`: the odds `p / q`, and minus the slope of [`guarded_complement_nll`].
#[must_use]
pub fn guarded_odds(a: f64, eps: f64) -> f64 {
    1.0 / a.max(eps).exp_m1()
}

/// Log-odds `o = log(p / q) = g(a) - a`, with the guarded `g`.
#[must_use]
pub fn guarded_log_odds(a: f64, eps: f64) -> f64 {
    guarded_complement_nll(a, eps) - a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64, relative: f64) {
        assert!((got - want).abs() <= relative * want.abs(), "got {got:e}, want {want:e}");
    }

    /// Twelve digits of g and k with eps = 1e-4, from 50-digit arithmetic.
    #[test]
    fn complement_nll_and_odds_at_marked_points() {
        for (a, g, k) in [
            (-1e-3, 10.2103403724 + 9.99950000833, 9999.50000833),
            (0.0, 10.2103403724, 9999.50000833),
            (1e-9, 10.2103303729, 9999.50000833),
            (1e-4, 9.21039037156, 9999.50000833),
            (0.69, 0.696304297144, 1.00632421105),
            (50.0, 1.92874984796e-22, 1.92874984796e-22),
        ] {
            close(guarded_complement_nll(a, DEFAULT_EPS), g, 1e-11);
            close(guarded_odds(a, DEFAULT_EPS), k, 1e-11);
        }
        close(guarded_complement_nll(700.0, DEFAULT_EPS), 9.8597e-305, 1e-5);
    }

    #[test]
    fn both_branches_meet_at_ln_2() {
        let step = 4.0 * f64::EPSILON;
        close(complement_nll(LN_2 - step), complement_nll(LN_2 + step), 1e-14);
        close(complement_nll(LN_2), LN_2, 1e-15);
    }

    #[test]
    fn guard_is_continuous_with_its_slope() {
        let eps = 1e-2;
        let (below, above) = (eps * (1.0 - 1e-12), eps * (1.0 + 1e-12));
        close(guarded_complement_nll(below, eps), guarded_complement_nll(above, eps), 1e-10);
        close(guarded_odds(below, eps), guarded_odds(above, eps), 1e-10);
    }

    #[test]
    fn tails_neither_overflow_nor_lose_their_digits() {
        for (x, plus, logistic) in [
            (0.0, LN_2, 0.5),
            (1e4, 1e4, 1.0),
            (-1e4, 0.0, 0.0),
            (-700.0, (-700f64).exp(), (-700f64).exp()),
            (f64::INFINITY, f64::INFINITY, 1.0),
            (f64::NEG_INFINITY, 0.0, 0.0),
        ] {
            assert_eq!(softplus(x), plus, "softplus({x})");
            assert_eq!(sigmoid(x), logistic, "sigmoid({x})");
        }
    }
}
