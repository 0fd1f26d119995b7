//! What `asft objective` prints for given log-probs: the fields of a golden file's `expected`.

use serde::Serialize;

use crate::error::{ObjectiveError, PairError};
use crate::metrics::{Metrics, MetricsSum};
use crate::objective::Objective;
use crate::score::{PairScores, Side};
use crate::step::PairLoss;
use crate::sum::ExactSum;

/// A pair as a step of its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairReport {
    /// Loss, derivatives and metrics.
    #[serde(flatten)]
    pub pair: PairLoss,
    /// Whether the log-odds guard took part, for the objectives that have one.
    #[serde(flatten)]
    pub guard: Option<GuardReport>,
}

/// Which answers lie below an objective's guard, and what it changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GuardReport {
    /// Answers whose per-token NLL is below `eps`.
    pub guarded: Vec<Side>,
    /// The loss without the guard, where one is below: `Some(None)`, in JSON null, if infinite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_unguarded: Option<Option<f64>>,
}

/// A whole optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// The step's loss.
    pub loss: f64,
    /// One derivative per pair, 1/N included, by the chosen answer's sum.
    pub grad_chosen: Vec<f64>,
    /// The same by the rejected answer's sum.
    pub grad_rejected: Vec<f64>,
    /// The same by the prompt's sum, where the NLL covers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grad_prompt: Option<Vec<f64>>,
    /// Means over the pairs.
    pub metrics: Metrics,
}

impl Objective {
    /// Evaluates a pair as a step of its own.
    ///
    /// # Errors
    /// As [`Objective::evaluate`].
    pub fn report_pair(&self, scores: &PairScores) -> Result<PairReport, ObjectiveError> {
        let pair = self.evaluate(scores, &self.norm([scores]))?;
        Ok(PairReport { pair, guard: self.report_guard(scores)? })
    }

    /// Evaluates a whole step.
    ///
    /// # Errors
    /// As [`Objective::evaluate_step`]; a step without pairs is refused.
    pub fn report_step(&self, pairs: &[PairScores]) -> Result<StepReport, PairError> {
        let losses = self.evaluate_step(pairs)?;
        let (mut loss, mut metrics) = (ExactSum::default(), MetricsSum::default());
        for pair in &losses {
            loss.add(pair.loss);
            metrics.add(&pair.metrics);
        }
        let empty = PairError { pair: 0, source: ObjectiveError::EmptyStep { what: "pairs" } };
        Ok(StepReport {
            loss: loss.value(),
            grad_chosen: losses.iter().map(|pair| pair.grad.chosen).collect(),
            grad_rejected: losses.iter().map(|pair| pair.grad.rejected).collect(),
            grad_prompt: losses.iter().map(|pair| pair.grad.prompt).collect(),
            metrics: metrics.mean().ok_or(empty)?,
        })
    }

    fn report_guard(&self, scores: &PairScores) -> Result<Option<GuardReport>, ObjectiveError> {
        let Some(unguarded) = self.formula().unguarded() else {
            return Ok(None);
        };
        let below = |logp_sum: f64, tokens: usize| -logp_sum / (tokens as f64) < self.formula().eps();
        let mut guarded = Vec::new();
        if below(scores.chosen.logp_sum, scores.chosen.tokens) {
            guarded.push(Side::Chosen);
        }
        if scores.rejected.is_some_and(|rejected| below(rejected.logp_sum, rejected.tokens)) {
            guarded.push(Side::Rejected);
        }
        let loss_unguarded = if guarded.is_empty() {
            None
        } else {
            let loss = unguarded.evaluate_unchecked(scores, &self.norm([scores]))?.metrics.loss;
            Some(loss.is_finite().then_some(loss))
        };
        Ok(Some(GuardReport { guarded, loss_unguarded }))
    }
}
