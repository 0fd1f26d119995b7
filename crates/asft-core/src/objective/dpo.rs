//! Direct preference optimisation (arXiv 2305.18290); with label smoothing conservative DPO.
//!
//! `L = S(x)` with `x = β·(r_w - r_l)`, `r = s - ref` and `S(x) = (1-ε)·sp(-x) + ε·sp(x)`.

use super::nll::Nll;
use super::range::Keys;
use super::settings::settings;
use super::{Align, Formula};
use crate::error::ConfigError;
use crate::numerics::smoothed;
use crate::score::Answer;

settings! {
    /// `[objective.dpo]`.
    Dpo {
        /// β: how far the model may move from the reference.
        beta = 0.1,
        /// ε: share of pairs whose labels are taken to be swapped.
        label_smoothing = 0.0,
    } with nll_weight = 0.0
}

impl Formula for Dpo {
    fn validate(&self) -> Result<(), ConfigError> {
        let keys = Keys("dpo");
        keys.above_zero("beta", self.beta)?;
        keys.label_smoothing(self.label_smoothing)?;
        keys.at_least_zero("nll_weight", self.nll_weight)
    }

    fn nll(&self) -> Nll {
        self.weighted_nll()
    }

    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align {
        let (value, slope) =
            smoothed(self.beta * (chosen.log_ratio() - rejected.log_ratio()), self.label_smoothing);
        Align { value, d_chosen: self.beta * slope, d_rejected: -self.beta * slope }
    }

    fn reward_scale(&self) -> f64 {
        self.beta
    }

    fn needs_reference(&self) -> bool {
        true
    }
}
