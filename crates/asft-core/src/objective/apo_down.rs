//! Anchored preference optimisation for answers that the model should move away from (arXiv 2408.06266, APO-down).
//!
//! `L = σ(β·r_w) + 1 - σ(β·(r_w - r_l))` with `r = s - ref`: both likelihoods fall, the rejected one further, as is wanted where
//! even the chosen answers are worse than the model's own. (APO-zero, its counterpart, is `kto` with its defaults.)

use super::nll::Nll;
use super::range::Keys;
use super::settings::settings;
use super::{Align, Formula};
use crate::error::ConfigError;
use crate::numerics::sigmoid;
use crate::score::Answer;

settings! {
    /// `[objective.apo_down]`.
    ApoDown {
        /// β: how far the model may move from the reference.
        beta = 0.1,
    } with nll_weight = 0.0
}

impl Formula for ApoDown {
    fn validate(&self) -> Result<(), ConfigError> {
        let keys = Keys("apo_down");
        keys.above_zero("beta", self.beta)?;
        keys.at_least_zero("nll_weight", self.nll_weight)
    }

    fn nll(&self) -> Nll {
        self.weighted_nll()
    }

    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align {
        let (x_w, x) =
            (self.beta * chosen.log_ratio(), self.beta * (chosen.log_ratio() - rejected.log_ratio()));
        let slope = |x: f64| self.beta * sigmoid(x) * sigmoid(-x);
        Align { value: sigmoid(x_w) + sigmoid(-x), d_chosen: slope(x_w) - slope(x), d_rejected: slope(x) }
    }

    fn reward_scale(&self) -> f64 {
        self.beta
    }

    fn needs_reference(&self) -> bool {
        true
    }
}
