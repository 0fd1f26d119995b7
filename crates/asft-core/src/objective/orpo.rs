//! Odds-ratio preference optimisation (arXiv 2403.07691).
//!
//! `L = -l_w + β·sp(-(o_w - o_l))` with log-odds `o = log(p/q)` of the length-normalised probability. In terms of
//! `a = -l`, `x = o_l - o_w = (a_w - a_l) + (g(a_l) - g(a_w))`: the two differences are formed apart, because each
//! of `a` and `g` may be large where the other is tiny.

use serde::{Deserialize, Serialize};

use super::nll::{Nll, NllReduction, NllScope};
use super::range::Keys;
use super::{Align, Formula, Objective};
use crate::error::ConfigError;
use crate::numerics::{DEFAULT_EPS, guarded_complement_nll, guarded_odds, sigmoid, softplus};
use crate::score::Answer;

/// `[objective.orpo]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Orpo {
    /// β: weight of the odds-ratio term (TRL's `beta`, the paper's λ).
    pub beta: f64,
    /// Tokens the NLL covers; TRL's trainer has `prompt_response`.
    pub nll_scope: NllScope,
    /// Mean over pairs or over tokens; TRL's trainer has `token`.
    pub nll_reduction: NllReduction,
    /// Per-token NLL below which the log-odds go on along their tangent.
    pub eps: f64,
}

impl Default for Orpo {
    fn default() -> Self {
        Self {
            beta: 0.1,
            nll_scope: NllScope::default(),
            nll_reduction: NllReduction::default(),
            eps: DEFAULT_EPS,
        }
    }
}

impl Formula for Orpo {
    fn validate(&self) -> Result<(), ConfigError> {
        let keys = Keys("orpo");
        keys.at_least_zero("beta", self.beta)?;
        keys.eps(self.eps)
    }

    fn nll(&self) -> Nll {
        Nll { weight: 1.0, scope: self.nll_scope, reduction: self.nll_reduction }
    }

    fn align_weight(&self) -> f64 {
        self.beta
    }

    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align {
        let (a_w, a_l) = (chosen.nll(), rejected.nll());
        let x = (a_w - a_l) + (guarded_complement_nll(a_l, self.eps) - guarded_complement_nll(a_w, self.eps));
        let h = sigmoid(x);
        Align {
            value: softplus(x),
            // do/dl = 1/q = 1 + k
            d_chosen: -h * (1.0 + guarded_odds(a_w, self.eps)) / chosen.tokens,
            d_rejected: h * (1.0 + guarded_odds(a_l, self.eps)) / rejected.tokens,
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
}
