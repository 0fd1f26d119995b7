//! Contrastive preference optimisation (arXiv 2401.08417): DPO without a reference, with an NLL.
//!
//! `L = S(x) - ν·l_w` with `x = β·(s_w - s_l)` and `S(x) = (1-ε)·sp(-x) + ε·sp(x)`.

use super::nll::Nll;
use super::range::Keys;
use super::settings::settings;
use super::{Align, Formula};
use crate::error::ConfigError;
use crate::numerics::smoothed;
use crate::score::Answer;

settings! {
    /// `[objective.cpo]`.
    Cpo {
        /// β: scale of the rewards.
        beta = 0.1,
        /// ε: share of pairs whose labels are taken to be swapped.
        label_smoothing = 0.0,
    } with nll_weight = 1.0
}

impl Formula for Cpo {
    fn validate(&self) -> Result<(), ConfigError> {
        let keys = Keys("cpo");
        keys.above_zero("beta", self.beta)?;
        keys.label_smoothing(self.label_smoothing)?;
        keys.at_least_zero("nll_weight", self.nll_weight)
    }

    fn nll(&self) -> Nll {
        self.weighted_nll()
    }

    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align {
        let (value, slope) = smoothed(self.beta * (chosen.sum - rejected.sum), self.label_smoothing);
        Align { value, d_chosen: self.beta * slope, d_rejected: -self.beta * slope }
    }

    fn reward_scale(&self) -> f64 {
        self.beta
    }

    fn reward(&self, answer: &Answer) -> f64 {
        answer.sum
    }
}
