//! Noise-contrastive alignment of pairs (arXiv 2402.05369).
//!
//! `L = sp(-β·r_w) + ½·sp(β·r_w) + ½·sp(β·r_l)` with `r = s - ref`: the two answers do not meet.

use super::nll::Nll;
use super::range::Keys;
use super::settings::settings;
use super::{Align, Formula};
use crate::error::ConfigError;
use crate::numerics::{sigmoid, softplus};
use crate::score::Answer;

settings! {
    /// `[objective.nca]`.
    Nca {
        /// β: how far the model may move from the reference.
        beta = 0.01,
    } with nll_weight = 0.0
}

impl Formula for Nca {
    fn validate(&self) -> Result<(), ConfigError> {
        let keys = Keys("nca");
        keys.above_zero("beta", self.beta)?;
        keys.at_least_zero("nll_weight", self.nll_weight)
    }

    fn nll(&self) -> Nll {
        self.weighted_nll()
    }

    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align {
        let (x_w, x_l) = (self.beta * chosen.log_ratio(), self.beta * rejected.log_ratio());
        Align {
            value: softplus(-x_w) + 0.5 * softplus(x_w) + 0.5 * softplus(x_l),
            d_chosen: self.beta * (0.5 * sigmoid(x_w) - sigmoid(-x_w)),
            d_rejected: 0.5 * self.beta * sigmoid(x_l),
        }
    }

    fn reward_scale(&self) -> f64 {
        self.beta
    }

    fn needs_reference(&self) -> bool {
        true
    }
}
