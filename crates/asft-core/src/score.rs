//! Scores of a pair: what a model's forward pass leaves of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ObjectiveError;

/// A part of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The preferred answer.
    Chosen,
    /// The dispreferred answer.
    Rejected,
    /// The prompt both answers share.
    Prompt,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chosen => "chosen",
            Self::Rejected => "rejected",
            Self::Prompt => "prompt",
        })
    }
}

/// Score of one answer given its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AnswerScore {
    /// Sum of natural log-probs over the answer's scored tokens (its end-of-turn tokens included).
    pub logp_sum: f64,
    /// Number of scored tokens, at least 1.
    pub tokens: usize,
    /// The same sum under the frozen reference model, for the objectives that need one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ref_logp_sum: Option<f64>,
}

impl AnswerScore {
    /// A score without a reference model.
    #[must_use]
    pub fn new(logp_sum: f64, tokens: usize) -> Self {
        Self { logp_sum, tokens, ref_logp_sum: None }
    }
}

/// Score of the prompt's predictable tokens: all but the row's first, so a one-token prompt has none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PromptScore {
    /// Sum of natural log-probs.
    pub logp_sum: f64,
    /// Number of predictable tokens.
    pub tokens: usize,
}

/// Scores of one pair. In JSON `{"chosen": {"logp_sum", "tokens"}, "rejected": {…}, "prompt": {…}}`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairScores {
    /// The preferred answer, or the demonstration in data for supervised fine-tuning.
    pub chosen: AnswerScore,
    /// The dispreferred answer; absent in demonstrations, which only `sft` accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<AnswerScore>,
    /// The prompt, where the objective's NLL covers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptScore>,
}

impl PairScores {
    /// A preference pair without prompt scores.
    #[must_use]
    pub fn new(chosen: AnswerScore, rejected: AnswerScore) -> Self {
        Self { chosen, rejected: Some(rejected), prompt: None }
    }

    /// These scores beside the reference model's.
    #[must_use]
    pub fn with_reference(mut self, reference: ReferenceSums) -> Self {
        self.chosen.ref_logp_sum = Some(reference.chosen);
        if let Some(rejected) = &mut self.rejected {
            rejected.ref_logp_sum = reference.rejected;
        }
        self
    }
}

/// What a frozen reference model leaves of a pair: its sums of log-probs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReferenceSums {
    /// Over the chosen answer's scored tokens.
    pub chosen: f64,
    /// Over the rejected answer's; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<f64>,
}

impl From<PairScores> for ReferenceSums {
    /// The sums of a pair that the reference model scored.
    fn from(scores: PairScores) -> Self {
        Self { chosen: scores.chosen.logp_sum, rejected: scores.rejected.map(|rejected| rejected.logp_sum) }
    }
}

/// A checked answer, in the form the formulas use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// s: sum of log-probs.
    pub sum: f64,
    /// T: number of scored tokens, at least 1.
    pub tokens: f64,
    /// ref: the same sum under the reference model, 0 without one.
    pub reference: f64,
}

impl Answer {
    /// Refuses what no formula can take: no tokens, a non-finite sum.
    pub fn check(score: &AnswerScore, side: Side) -> Result<Self, ObjectiveError> {
        if score.tokens == 0 {
            return Err(ObjectiveError::NoTokens { side });
        }
        check_finite(side, "logp_sum", score.logp_sum)?;
        if let Some(reference) = score.ref_logp_sum {
            check_finite(side, "ref_logp_sum", reference)?;
        }
        let reference = score.ref_logp_sum.unwrap_or(0.0);
        Ok(Self { sum: score.logp_sum, tokens: score.tokens as f64, reference })
    }

    /// l: log-prob per token.
    pub fn mean(&self) -> f64 {
        self.sum / self.tokens
    }

    /// r = s − ref: log-ratio to the reference model.
    pub fn log_ratio(&self) -> f64 {
        self.sum - self.reference
    }

    /// r / T: log-ratio per token.
    pub fn mean_log_ratio(&self) -> f64 {
        self.log_ratio() / self.tokens
    }

    /// a = −l: negative log-likelihood per token.
    pub fn nll(&self) -> f64 {
        -self.mean()
    }
}

impl From<AnswerScore> for PromptScore {
    fn from(score: AnswerScore) -> Self {
        Self { logp_sum: score.logp_sum, tokens: score.tokens }
    }
}

impl PromptScore {
    pub(crate) fn check(&self) -> Result<(), ObjectiveError> {
        check_finite(Side::Prompt, "logp_sum", self.logp_sum)?;
        if self.tokens == 0 && self.logp_sum != 0.0 {
            return Err(ObjectiveError::NoTokens { side: Side::Prompt });
        }
        Ok(())
    }
}

fn check_finite(side: Side, field: &'static str, value: f64) -> Result<(), ObjectiveError> {
    if value.is_finite() { Ok(()) } else { Err(ObjectiveError::NotFinite { side, field, value }) }
}
