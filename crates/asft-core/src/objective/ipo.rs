//! Identity preference optimisation (arXiv 2310.12036), with log-ratios per token as in TRL.
//!
//! `L = (d - 1/(2β))²` with `d = r_w/T_w - r_l/T_l` and `r = s - ref`.

use super::nll::Nll;
use super::range::Keys;
use super::settings::settings;
use super::{Align, Formula};
use crate::error::ConfigError;
use crate::score::Answer;

settings! {
    /// `[objective.ipo]`.
    Ipo {
        /// β: the paper's τ; the difference asked for is 1/(2β).
        beta = 0.1,
    } with nll_weight = 0.0
}

impl Formula for Ipo {
    fn validate(&self) -> Result<(), ConfigError> {
        let keys = Keys("ipo");
        keys.above_zero("beta", self.beta)?;
        keys.at_least_zero("nll_weight", self.nll_weight)
    }

    fn nll(&self) -> Nll {
        self.weighted_nll()
    }

    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align {
        let off = chosen.mean_log_ratio() - rejected.mean_log_ratio() - 0.5 / self.beta;
        Align {
            value: off * off,
            d_chosen: 2.0 * off / chosen.tokens,
            d_rejected: -2.0 * off / rejected.tokens,
        }
    }

    fn reward_scale(&self) -> f64 {
        self.beta
    }

    fn needs_reference(&self) -> bool {
        true
    }
}
