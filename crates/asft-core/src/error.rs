//! Errors of objectives: a setting out of its range, and a pair that has no loss.

use crate::score::Side;

/// A key of an `[objective.NAME]` table outside its accepted range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("objective.{objective}.{key} must be {must}, got {got}")]
pub struct ConfigError {
    /// Name of the objective, as in the configuration.
    pub objective: &'static str,
    /// The key inside the objective's table.
    pub key: &'static str,
    /// What is accepted, in words.
    pub must: &'static str,
    /// The value found.
    pub got: f64,
}

/// Why a pair has no loss. None of these is ever turned into a NaN.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ObjectiveError {
    /// An answer without scored tokens; its length-normalised log-prob would be 0/0.
    #[error(
        "{side}.tokens is 0: an answer without scored tokens has no loss; drop the pair when reading data"
    )]
    NoTokens {
        /// The side without tokens.
        side: Side,
    },
    /// A log-prob sum that is NaN or infinite.
    #[error("{side}.{field} is {value}, not a finite number; check the model's weights and logits")]
    NotFinite {
        /// The side concerned.
        side: Side,
        /// `logp_sum` or `ref_logp_sum`.
        field: &'static str,
        /// The value found.
        value: f64,
    },
    /// The objective compares two answers and the pair has one.
    #[error(
        "objective `{objective}` needs a rejected answer and the pair has none; only `sft` trains without one"
    )]
    MissingRejected {
        /// Name of the objective.
        objective: &'static str,
    },
    /// The NLL covers the prompt, whose log-probs are not there.
    #[error(
        "objective.{objective}.nll_scope is \"prompt_response\" and the pair has no prompt log-probs; \
         score the prompt too, or set it to \"response\""
    )]
    MissingPrompt {
        /// Name of the objective.
        objective: &'static str,
    },
    /// The objective needs the frozen reference model's log-probs.
    #[error(
        "objective `{objective}` needs {side}.ref_logp_sum and the pair has none; score it under the reference model"
    )]
    MissingReference {
        /// Name of the objective.
        objective: &'static str,
        /// The side without a reference sum.
        side: Side,
    },
    /// A point outside of the plane of likelihoods.
    #[error("{value} is no likelihood that a network gives: it must lie between 0 and 1")]
    Likelihood {
        /// The value found.
        value: f64,
    },
    /// A step without pairs, or without tokens where their number divides the loss.
    #[error("the step's number of {what} is 0, and the loss is divided by it")]
    EmptyStep {
        /// `pairs` or `NLL tokens`.
        what: &'static str,
    },
    /// Finite log-probs so large that the loss or a derivative leaves the range of `f64`.
    #[error("{what} overflows to {value}; a log-prob sum of this pair is out of any plausible range")]
    Overflow {
        /// `loss`, `grad_chosen`, ….
        what: &'static str,
        /// The value it became.
        value: f64,
    },
}

/// An [`ObjectiveError`] with the pair it belongs to.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("pair {pair}: {source}")]
pub struct PairError {
    /// Index of the pair within its step or data set, from 0.
    pub pair: usize,
    /// What is wrong with it.
    pub source: ObjectiveError,
}
