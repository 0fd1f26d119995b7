//! Robust DPO: DPO unbiased under labels that are swapped at a known rate (arXiv 2403.00409).
//!
//! `L = [(1-ε)·sp(-x) - ε·sp(x)] / (1-2ε)` with `x = β·(r_w - r_l)` and `r = s - ref`.

use super::nll::Nll;
use super::range::Keys;
use super::settings::settings;
use super::{Align, Formula};
use crate::error::ConfigError;
use crate::numerics::{sigmoid, softplus};
use crate::score::Answer;

settings! {
    /// `[objective.robust]`.
    Robust {
        /// β: how far the model may move from the reference.
        beta = 0.1,
        /// ε: rate at which labels are swapped.
        label_smoothing = 0.1,
    } with nll_weight = 0.0
}

impl Formula for Robust {
    fn validate(&self) -> Result<(), ConfigError> {
        let keys = Keys("robust");
        keys.above_zero("beta", self.beta)?;
        keys.label_smoothing(self.label_smoothing)?;
        keys.at_least_zero("nll_weight", self.nll_weight)
    }

    fn nll(&self) -> Nll {
        self.weighted_nll()
    }

    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align {
        let (x, eps) = (self.beta * (chosen.log_ratio() - rejected.log_ratio()), self.label_smoothing);
        let whole = 1.0 - 2.0 * eps;
        let slope = self.beta * ((1.0 - eps) * sigmoid(-x) + eps * sigmoid(x)) / whole;
        let value = ((1.0 - eps) * softplus(-x) - eps * softplus(x)) / whole;
        Align { value, d_chosen: -slope, d_rejected: slope }
    }

    fn reward_scale(&self) -> f64 {
        self.beta
    }

    fn needs_reference(&self) -> bool {
        true
    }
}
