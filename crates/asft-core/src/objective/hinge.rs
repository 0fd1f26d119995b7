//! Hinge loss on log-ratios, the normalised form of SLiC (arXiv 2309.06657).
//!
//! `L = max(0, 1 - β·(r_w - r_l))` with `r = s - ref`; at the kink the derivative is 0.

use super::nll::Nll;
use super::range::Keys;
use super::settings::settings;
use super::{Align, Formula};
use crate::error::ConfigError;
use crate::score::Answer;

settings! {
    /// `[objective.hinge]`.
    Hinge {
        /// β: slope of the loss; its reciprocal is the margin asked for.
        beta = 0.1,
    } with nll_weight = 0.0
}

impl Formula for Hinge {
    fn validate(&self) -> Result<(), ConfigError> {
        let keys = Keys("hinge");
        keys.above_zero("beta", self.beta)?;
        keys.at_least_zero("nll_weight", self.nll_weight)
    }

    fn nll(&self) -> Nll {
        self.weighted_nll()
    }

    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align {
        let short = 1.0 - self.beta * (chosen.log_ratio() - rejected.log_ratio());
        let slope = if short > 0.0 { self.beta } else { 0.0 };
        Align { value: short.max(0.0), d_chosen: -slope, d_rejected: slope }
    }

    fn reward_scale(&self) -> f64 {
        self.beta
    }

    fn needs_reference(&self) -> bool {
        true
    }
}
