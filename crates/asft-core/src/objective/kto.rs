//! Kahneman–Tversky optimisation of pairs (arXiv 2402.01306) with a constant reference point.
//!
//! `L = λ_w·σ(-u) + λ_l·σ(-v)` with `u = β·(r_w - z)`, `v = β·(z - r_l)` and `r = s - ref`. The paper estimates z from
//! mismatched pairs, which needs other pairs' prompts; here it is a given number. With z = 0 and both λ = 1 this is TRL's
//! `apo_zero`.

use super::nll::Nll;
use super::range::Keys;
use super::settings::settings;
use super::{Align, Formula};
use crate::error::ConfigError;
use crate::numerics::sigmoid;
use crate::score::Answer;

settings! {
    /// `[objective.kto]`.
    Kto {
        /// β: how far the model may move from the reference.
        beta = 0.1,
        /// z: log-ratio at which an answer is neither gain nor loss.
        z = 0.0,
        /// λ_w: weight of the chosen answer.
        lambda_chosen = 1.0,
        /// λ_l: weight of the rejected answer.
        lambda_rejected = 1.0,
    } with nll_weight = 0.0
}

impl Formula for Kto {
    fn validate(&self) -> Result<(), ConfigError> {
        let keys = Keys("kto");
        keys.above_zero("beta", self.beta)?;
        keys.at_least_zero("z", self.z)?;
        keys.at_least_zero("lambda_chosen", self.lambda_chosen)?;
        keys.at_least_zero("lambda_rejected", self.lambda_rejected)?;
        keys.at_least_zero("nll_weight", self.nll_weight)
    }

    fn nll(&self) -> Nll {
        self.weighted_nll()
    }

    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align {
        let u = self.beta * (chosen.log_ratio() - self.z);
        let v = self.beta * (self.z - rejected.log_ratio());
        Align {
            value: self.lambda_chosen * sigmoid(-u) + self.lambda_rejected * sigmoid(-v),
            d_chosen: -self.lambda_chosen * self.beta * sigmoid(u) * sigmoid(-u),
            d_rejected: self.lambda_rejected * self.beta * sigmoid(v) * sigmoid(-v),
        }
    }

    fn reward_scale(&self) -> f64 {
        self.beta
    }

    fn needs_reference(&self) -> bool {
        true
    }
}
