//! Binary classifier optimisation (arXiv 2404.04656) with a constant reward shift.
//!
//! `L = sp(δ - β·r_w) + sp(β·r_l - δ)` with `r = s - ref`. The paper's δ is a running mean of rewards, which is state
//! and no function of a pair; here it is a given number.

use super::nll::Nll;
use super::range::Keys;
use super::settings::settings;
use super::{Align, Formula};
use crate::error::ConfigError;
use crate::numerics::{sigmoid, softplus};
use crate::score::Answer;

settings! {
    /// `[objective.bco]`.
    Bco {
        /// β: how far the model may move from the reference.
        beta = 0.01,
        /// δ: reward at which an answer counts as neither good nor bad.
        delta = 0.0,
    } with nll_weight = 0.0
}

impl Formula for Bco {
    fn validate(&self) -> Result<(), ConfigError> {
        let keys = Keys("bco");
        keys.above_zero("beta", self.beta)?;
        keys.finite("delta", self.delta)?;
        keys.at_least_zero("nll_weight", self.nll_weight)
    }

    fn nll(&self) -> Nll {
        self.weighted_nll()
    }

    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align {
        let short = self.delta - self.beta * chosen.log_ratio();
        let over = self.beta * rejected.log_ratio() - self.delta;
        Align {
            value: softplus(short) + softplus(over),
            d_chosen: -self.beta * sigmoid(short),
            d_rejected: self.beta * sigmoid(over),
        }
    }

    fn reward_scale(&self) -> f64 {
        self.beta
    }

    fn needs_reference(&self) -> bool {
        true
    }
}
