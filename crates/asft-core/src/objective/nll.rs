//! The supervised part that objectives share: negative log-likelihood of the chosen answer, as switched.

use serde::{Deserialize, Serialize};

use crate::error::ObjectiveError;
use crate::score::{Answer, PromptScore};
use crate::step::StepNorm;

/// Which tokens of the chosen row the NLL covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NllScope {
    /// The answer's scored tokens (the paper as we read it, and LLaMA-Factory).
    #[default]
    Response,
    /// Prompt and answer, as TRL's ORPO trainer does.
    PromptResponse,
}

/// How the NLL of a step's pairs becomes one number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NllReduction {
    /// Mean over tokens within a pair, then mean over pairs.
    #[default]
    Pair,
    /// The step's summed log-prob over the step's token count (TRL); weighs long answers more.
    Token,
}

/// An objective's NLL with its weight ν.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nll {
    pub weight: f64,
    pub scope: NllScope,
    pub reduction: NllReduction,
}

/// The NLL of one pair, before its weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NllTerm {
    /// Scaled so that the mean over the step's pairs is the step's NLL, whatever the reduction.
    pub value: f64,
    /// Derivative of the step's NLL by this pair's log-prob sums, 1/N included.
    pub slope: f64,
}

impl Nll {
    /// Number of tokens a pair adds to [`StepNorm::nll_tokens`].
    pub fn tokens(&self, chosen: usize, prompt: Option<usize>) -> usize {
        match self.scope {
            NllScope::Response => chosen,
            NllScope::PromptResponse => chosen.saturating_add(prompt.unwrap_or(0)),
        }
    }

    /// Derivative of the step's NLL by the sum of a pair with `tokens` NLL tokens; needs no log-prob.
    pub fn slope(&self, tokens: f64, norm: &StepNorm) -> f64 {
        match self.reduction {
            NllReduction::Pair => -1.0 / tokens / norm.pairs as f64,
            NllReduction::Token => -1.0 / norm.nll_tokens as f64,
        }
    }

    /// `None` where the prompt is in scope, not given, and the weight is 0, so that only a metric is missing.
    pub fn evaluate(
        &self,
        objective: &'static str,
        chosen: &Answer,
        prompt: Option<&PromptScore>,
        norm: &StepNorm,
    ) -> Result<Option<NllTerm>, ObjectiveError> {
        let (sum, tokens) = match (self.scope, prompt) {
            (NllScope::Response, _) => (chosen.sum, chosen.tokens),
            (NllScope::PromptResponse, Some(prompt)) => {
                (prompt.logp_sum + chosen.sum, prompt.tokens as f64 + chosen.tokens)
            }
            (NllScope::PromptResponse, None) if self.weight == 0.0 => return Ok(None),
            (NllScope::PromptResponse, None) => {
                return Err(ObjectiveError::MissingPrompt { objective });
            }
        };
        let value = match self.reduction {
            NllReduction::Pair => -sum / tokens,
            NllReduction::Token if norm.nll_tokens == 0 => {
                return Err(ObjectiveError::EmptyStep { what: "NLL tokens" });
            }
            NllReduction::Token => -sum * (norm.pairs as f64 / norm.nll_tokens as f64),
        };
        Ok(Some(NllTerm { value, slope: self.slope(tokens, norm) }))
    }
}
