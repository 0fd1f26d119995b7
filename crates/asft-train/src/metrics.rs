//! Rows of `metrics.jsonl`.

use asft_core::Metrics;
use serde::{Deserialize, Serialize};

/// Whether a row tells of an optimizer step or of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An optimizer step, measured before its update.
    Train,
    /// An evaluation after a step.
    Eval,
}

/// One row: what happened in a step or an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricsRow {
    /// Step or evaluation.
    pub kind: Kind,
    /// Steps made, counted from 1; evaluations before the first have 0.
    pub step: usize,
    /// Passes over the data made so far.
    pub epoch: f64,
    /// Means over the pairs.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Global norm of the gradient before clipping; only steps have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// Rate of the step; only steps have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Pairs of the step or evaluation.
    pub pairs: usize,
    /// Tokens that went through the model, shared prompts counted once.
    pub tokens: usize,
    /// Seconds the step or evaluation took.
    pub seconds: f64,
    /// Pairs a second.
    pub pairs_per_second: f64,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// Processes that shared the work; absent for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks: Option<usize>,
    /// Share of the time in which rank 0 exchanged with the others or waited for them; absent for one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communication_share: Option<f64>,
    /// Highest resident memory of the process so far; absent where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
}

impl MetricsRow {
    /// A row that is not timed yet.
    pub fn new(kind: Kind, step: usize, epoch: f64, metrics: Metrics, pairs: usize, tokens: usize) -> Self {
        Self {
            kind,
            step,
            epoch,
            metrics,
            grad_norm: None,
            learning_rate: None,
            pairs,
            tokens,
            seconds: 0.0,
            pairs_per_second: 0.0,
            tokens_per_second: 0.0,
            ranks: None,
            communication_share: None,
            peak_memory_bytes: None,
        }
    }

    /// Fills in what several processes did together, in which `communication` of the [`Self::timed`] seconds passed.
    pub fn shared(mut self, ranks: usize, communication: f64) -> Self {
        if ranks > 1 {
            self.ranks = Some(ranks);
            self.communication_share = Some(communication / self.seconds);
        }
        self
    }

    /// Fills in duration, rates and memory.
    pub fn timed(mut self, seconds: f64) -> Self {
        self.seconds = seconds;
        self.pairs_per_second = self.pairs as f64 / seconds;
        self.tokens_per_second = self.tokens as f64 / seconds;
        self.peak_memory_bytes = crate::memory::peak_bytes();
        self
    }
}

/// How fast the steps of a run went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// See [`MetricsRow::communication_share`]; absent where no step was shared.
    pub communication_share: Option<f64>,
}

impl Speed {
    /// Over the steps among `rows`.
    pub fn of(rows: &[MetricsRow]) -> Self {
        let steps: Vec<&MetricsRow> = rows.iter().filter(|row| row.kind == Kind::Train).collect();
        let seconds: f64 = steps.iter().map(|row| row.seconds).sum();
        if seconds == 0.0 {
            return Self::default();
        }
        let tokens: usize = steps.iter().map(|row| row.tokens).sum();
        let communication = steps.iter().filter_map(|row| Some(row.communication_share? * row.seconds));
        let shared = steps.iter().any(|row| row.communication_share.is_some());
        Self {
            tokens_per_second: tokens as f64 / seconds,
            communication_share: shared.then(|| communication.sum::<f64>() / seconds),
        }
    }
}
