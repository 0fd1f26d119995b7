//! DPO on log-ratios per token (arXiv 2411.15124).
//!
//! `L = sp(-β·d)` with `d = r_w/T_w - r_l/T_l` and `r = s - ref`.

use super::nll::Nll;
use super::range::Keys;
use super::settings::settings;
use super::{Align, Formula};
use crate::error::ConfigError;
use crate::numerics::{sigmoid, softplus};
use crate::score::Answer;

settings! {
    /// `[objective.sigmoid_norm]`.
    SigmoidNorm {
        /// β: far larger than DPO's, since `d` is a mean over tokens.
        beta = 5.0,
    } with nll_weight = 0.0
}

impl Formula for SigmoidNorm {
    fn validate(&self) -> Result<(), ConfigError> {
        let keys = Keys("sigmoid_norm");
        keys.above_zero("beta", self.beta)?;
        keys.at_least_zero("nll_weight", self.nll_weight)
    }

    fn nll(&self) -> Nll {
        self.weighted_nll()
    }

    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align {
        let x = self.beta * (chosen.mean_log_ratio() - rejected.mean_log_ratio());
        let slope = self.beta * sigmoid(-x);
        Align { value: softplus(-x), d_chosen: -slope / chosen.tokens, d_rejected: slope / rejected.tokens }
    }

    fn reward_scale(&self) -> f64 {
        self.beta
    }

    fn needs_reference(&self) -> bool {
        true
    }
}
