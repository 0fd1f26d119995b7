//! Aligned supervised fine-tuning (arXiv 2409.10571, Eq 13–14 and Appendix B).
//!
//! `L = -ν·l_w + β·[sp(-τ·o_w) + sp(τ·o_l)]`: two binary cross-entropies, one per answer, on the log-odds
//! `o = log(p/q)` of the length-normalised probability `p = e^l`. At τ = 1 it closes to
//! `-(ν + β)·l_w - β·log(1 - p_l)`, whose chosen side is supervised fine-tuning times ν + β. The temperature τ is
//! from arXiv 2502.01237; the paper has none.

use super::nll::Nll;
use super::range::Keys;
use super::settings::settings;
use super::{Align, Formula, Objective};
use crate::error::ConfigError;
use crate::numerics::{DEFAULT_EPS, complement_nll, guarded_complement_nll, guarded_odds, sigmoid, softplus};
use crate::score::Answer;

settings! {
    /// `[objective.asft]`.
    Asft {
        /// β: weight of the align term; the paper's useful range is 0.1 to 0.5. 0 gives SFT exactly.
        beta = 0.1,
        /// τ: temperature of the log-odds.
        temperature = 1.0,
        /// Per-token NLL below which the log-odds go on along their tangent; bounds the rejected side's slope.
        eps = DEFAULT_EPS,
    } with nll_weight = 1.0
}

impl Formula for Asft {
    fn validate(&self) -> Result<(), ConfigError> {
        let keys = Keys("asft");
        keys.at_least_zero("beta", self.beta)?;
        keys.temperature(self.temperature)?;
        keys.at_least_zero("nll_weight", self.nll_weight)?;
        keys.eps(self.eps)
    }

    fn nll(&self) -> Nll {
        self.weighted_nll()
    }

    fn align_weight(&self) -> f64 {
        self.beta
    }

    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align {
        let (keep, push) = (self.chosen_term(chosen.nll()), self.rejected_term(rejected.nll()));
        // the terms are functions of a = -s/T
        Align {
            value: keep.value + push.value,
            d_chosen: -keep.slope / chosen.tokens,
            d_rejected: -push.slope / rejected.tokens,
        }
    }

    fn reward_scale(&self) -> f64 {
        self.beta
    }

    fn eps(&self) -> f64 {
        self.eps
    }

    fn unguarded(&self) -> Option<Objective> {
        Some(Self { eps: 0.0, ..self.clone() }.into())
    }

    fn constant_chosen_slope(&self) -> Option<f64> {
        (self.temperature == 1.0).then_some(-1.0)
    }
}

/// Value and slope of a function of a.
#[derive(Clone, Copy)]
struct Term {
    value: f64,
    slope: f64,
}

impl Term {
    /// The tangent through this term at `at`, read at `a`.
    fn tangent(self, at: f64, a: f64) -> Self {
        Self { value: self.value + self.slope * (a - at), slope: self.slope }
    }
}

impl Asft {
    /// `C(a) = sp(-τ·o)`. At τ = 1 it is `a` itself and needs no guard.
    fn chosen_term(&self, a: f64) -> Term {
        let tau = self.temperature;
        if tau == 1.0 {
            Term { value: a, slope: 1.0 }
        } else if tau < 1.0 && a < self.eps {
            // the slope is unbounded towards a = 0
            self.chosen_above_guard(self.eps).tangent(self.eps, a)
        } else if a <= 0.0 {
            // τ > 1: value and slope vanish at 0 and stay there
            Term { value: 0.0, slope: 0.0 }
        } else {
            self.chosen_above_guard(a)
        }
    }

    fn chosen_above_guard(&self, a: f64) -> Term {
        let tau = self.temperature;
        let (p, q) = ((-a).exp(), -(-a).exp_m1());
        Term {
            value: softplus(tau * (a - complement_nll(a))),
            // τ·σ(-τ·o)/q with one power of q cancelled: finite where q vanishes
            slope: tau * q.powf(tau - 1.0) / (p.powf(tau) + q.powf(tau)),
        }
    }

    /// `R(a) = sp(τ·o)`, below eps its tangent. At τ = 1 it is `g(a) = -log(1 - e^{-a})`.
    fn rejected_term(&self, a: f64) -> Term {
        if self.temperature == 1.0 {
            Term { value: guarded_complement_nll(a, self.eps), slope: -guarded_odds(a, self.eps) }
        } else if a < self.eps {
            self.rejected_above_guard(self.eps).tangent(self.eps, a)
        } else {
            self.rejected_above_guard(a)
        }
    }

    fn rejected_above_guard(&self, a: f64) -> Term {
        let tau = self.temperature;
        let x = tau * (complement_nll(a) - a);
        // do/da = -1/q = -(1 + k)
        Term { value: softplus(x), slope: -tau * sigmoid(x) * (1.0 + 1.0 / a.exp_m1()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_temperature(temperature: f64) -> Asft {
        Asft { temperature, ..Asft::default() }
    }

    #[test]
    fn other_temperatures_meet_the_closed_form_at_one() {
        let exact = with_temperature(1.0);
        for a in [-1e-7, 0.0, 1e-9, 5e-5, 1e-4, 1e-3, 0.1, 0.7, 3.0, 40.0] {
            for temperature in [1.0 - 1e-9, 1.0 + 1e-9] {
                let near = with_temperature(temperature);
                for (side, got, want) in [
                    ("chosen", near.chosen_term(a), exact.chosen_term(a)),
                    ("rejected", near.rejected_term(a), exact.rejected_term(a)),
                ] {
                    // above 1 the chosen term ends at a = 0 with slope 0
                    let ends = side == "chosen" && temperature > 1.0 && a <= 0.0;
                    let slope_error = if ends { 0.0 } else { (got.slope - want.slope).abs() };
                    assert!(
                        (got.value - want.value).abs() <= 1e-6 * (1.0 + want.value.abs()),
                        "{side} {temperature} {a}"
                    );
                    assert!(slope_error <= 1e-6 * (1.0 + want.slope.abs()), "{side} {temperature} {a}");
                }
            }
        }
    }

    #[test]
    fn guards_join_without_a_step() {
        for temperature in [0.1, 0.5, 1.0, 2.0, 7.0] {
            let asft = with_temperature(temperature);
            let (below, above) = (asft.eps * (1.0 - 1e-12), asft.eps * (1.0 + 1e-12));
            for term in [Asft::chosen_term, Asft::rejected_term] {
                let (l, r) = (term(&asft, below), term(&asft, above));
                assert!((l.value - r.value).abs() <= 1e-9 * r.value.abs(), "τ {temperature}");
                assert!((l.slope - r.slope).abs() <= 1e-9 * r.slope.abs(), "τ {temperature}");
            }
        }
    }
}
