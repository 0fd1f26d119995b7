//! Supervised fine-tuning: the chosen answer's negative log-likelihood, `L = -l_w` (arXiv 2409.10571, §3.3).

use serde::{Deserialize, Serialize};

use super::nll::{Nll, NllReduction, NllScope};
use super::{Align, Formula};
use crate::error::ConfigError;
use crate::score::Answer;

/// `[objective.sft]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sft {
    /// Tokens the NLL covers.
    pub nll_scope: NllScope,
    /// Mean over pairs or over tokens.
    pub nll_reduction: NllReduction,
}

impl Formula for Sft {
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    fn nll(&self) -> Nll {
        Nll { weight: 1.0, scope: self.nll_scope, reduction: self.nll_reduction }
    }

    fn align_weight(&self) -> f64 {
        0.0
    }

    fn align(&self, _: &Answer, _: &Answer) -> Align {
        Align::default()
    }

    fn reward_scale(&self) -> f64 {
        1.0
    }

    fn constant_chosen_slope(&self) -> Option<f64> {
        Some(0.0)
    }

    fn needs_rejected(&self) -> bool {
        false
    }
}
