//! Simple preference optimisation (arXiv 2405.14734): rewards are log-probs per token.
//!
//! `L = S(x)` with `x = β·(l_w - l_l - ρ)` and `S(x) = (1-ε)·sp(-x) + ε·sp(x)`. TRL's `simpo_gamma` is ρ·β.

use super::nll::Nll;
use super::range::Keys;
use super::settings::settings;
use super::{Align, Formula};
use crate::error::ConfigError;
use crate::numerics::smoothed;
use crate::score::Answer;

settings! {
    /// `[objective.simpo]`.
    Simpo {
        /// β: scale of the rewards.
        beta = 2.0,
        /// ρ: difference of log-probs per token asked for (the paper's γ/β).
        gamma_beta_ratio = 0.5,
        /// ε: share of pairs whose labels are taken to be swapped.
        label_smoothing = 0.0,
    } with nll_weight = 0.0
}

impl Formula for Simpo {
    fn validate(&self) -> Result<(), ConfigError> {
        let keys = Keys("simpo");
        keys.above_zero("beta", self.beta)?;
        keys.at_least_zero("gamma_beta_ratio", self.gamma_beta_ratio)?;
        keys.label_smoothing(self.label_smoothing)?;
        keys.at_least_zero("nll_weight", self.nll_weight)
    }

    fn nll(&self) -> Nll {
        self.weighted_nll()
    }

    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align {
        let x = self.beta * (chosen.mean() - rejected.mean() - self.gamma_beta_ratio);
        let (value, slope) = smoothed(x, self.label_smoothing);
        Align {
            value,
            d_chosen: self.beta * slope / chosen.tokens,
            d_rejected: -self.beta * slope / rejected.tokens,
        }
    }

    fn reward_scale(&self) -> f64 {
        self.beta
    }
}
