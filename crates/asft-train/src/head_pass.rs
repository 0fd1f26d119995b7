//! From the last hidden states to losses and back: the head's part of a micro-batch.
//!
//! Scores go to the host, where the objective turns them into a coefficient for each answer's log-probs. Where
//! an answer's coefficient follows from its length alone (the chosen one's under ASFT and SFT), its logits are
//! made once, for score and gradient together; all others are made once for the score and once for the
//! gradient.

use std::ops::Range;

use asft_core::{AnswerScore, Objective, PairError, PairLoss, PairScores, PromptScore, StepNorm};
use asft_data::pack::ScoredRows;
use asft_model::{LlamaBackend, head};
use burn::tensor::{Int, Tensor, TensorData, backend::Backend, s};

/// Scored rows in the order in which they go through the head.
#[derive(Debug)]
pub struct HeadPass<'a> {
    scored: ScoredRows,
    objective: &'a Objective,
    norm: &'a StepNorm,
    /// Index into the scored rows, those with a known coefficient first.
    order: Vec<usize>,
    /// Coefficients of the first rows in `order`.
    known: Vec<f32>,
    /// Stream rows and labels in that order.
    rows: Vec<u32>,
    labels: Vec<u32>,
}

/// What [`HeadPass::run`] gives.
#[derive(Debug)]
pub struct HeadPassed<B: Backend> {
    /// Each pair's part of the step's loss.
    pub losses: Vec<PairLoss>,
    /// Gradient by the rows that were passed in, f32.
    pub hidden_grad: Tensor<B, 2>,
    /// Gradient by the head's matrix, added to what was passed in, f32.
    pub weight_grad: Tensor<B, 2>,
}

impl<'a> HeadPass<'a> {
    /// Prepares the rows of a micro-batch.
    pub fn new(scored: ScoredRows, objective: &'a Objective, norm: &'a StepNorm) -> Self {
        let (mut order, mut known) = (vec![], vec![]);
        let mut rest = vec![];
        for pair in &scored.pairs {
            match objective.known_chosen_grad(pair.chosen.len(), norm) {
                Some(gradient) => {
                    order.extend(pair.chosen.clone());
                    known.resize(order.len(), gradient as f32);
                }
                None => rest.extend(pair.chosen.clone()),
            }
            rest.extend(pair.rejected.clone());
            rest.extend(pair.prompt.clone());
        }
        order.extend(rest);
        let in_order = |values: &[u32]| order.iter().map(|&row| values[row]).collect();
        let (rows, labels) = (in_order(&scored.rows), in_order(&scored.labels));
        Self { scored, objective, norm, order, known, rows, labels }
    }

    /// Stream indices of the rows that [`Self::run`] takes.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Losses and gradients for `hidden` `[rows, hidden]`, the normed states of [`Self::rows`], under the
    /// head's matrix `weight` `[vocab, hidden]`, whose gradient so far is `weight_grad`.
    pub fn run<B: LlamaBackend>(
        &self,
        hidden: Tensor<B, 2>,
        weight: &Tensor<B, 2>,
        weight_grad: Option<Tensor<B, 2>>,
    ) -> Result<HeadPassed<B>, PairError> {
        let known = self.known.len();
        let (known_labels, rest_labels) = self.labels.split_at(known);
        let rest_hidden = hidden.clone().slice(s![known..]);
        let first = head::backward(hidden.slice(s![..known]), weight, known_labels, &self.known, weight_grad);
        let rest = head::log_probs(rest_hidden.clone(), weight, rest_labels);

        let mut log_probs = vec![0.0; self.order.len()];
        for (&row, log_prob) in self.order.iter().zip(first.log_probs.iter().chain(&rest)) {
            log_probs[row] = *log_prob;
        }
        let losses = evaluate(self.objective, self.norm, &pair_scores(&self.scored, &log_probs))?;
        let coefficients = token_coefficients(&self.scored, &losses);
        let coefficients: Vec<f32> = self.order[known..].iter().map(|&row| coefficients[row]).collect();
        // An objective may score answers that it does not train on.
        if coefficients.iter().all(|&coefficient| coefficient == 0.0) {
            let hidden_grad = Tensor::cat(vec![first.hidden, rest_hidden.zeros_like()], 0);
            return Ok(HeadPassed { losses, hidden_grad, weight_grad: first.weight });
        }
        let second = head::backward(rest_hidden, weight, rest_labels, &coefficients, Some(first.weight));
        let hidden_grad = Tensor::cat(vec![first.hidden, second.hidden], 0);
        Ok(HeadPassed { losses, hidden_grad, weight_grad: second.weight })
    }
}

/// Indices of rows on the device.
pub fn row_index<B: Backend>(rows: &[u32], device: &B::Device) -> Tensor<B, 1, Int> {
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let length = rows.len();
    Tensor::from_data(TensorData::new(rows, [length]), device)
}

/// Each pair's scores from the log-probs of its scored rows.
pub fn pair_scores(scored: &ScoredRows, log_probs: &[f32]) -> Vec<PairScores> {
    let sum = |rows: &Range<usize>| {
        log_probs[rows.clone()].iter().map(|&log_prob| f64::from(log_prob)).sum::<f64>()
    };
    let answer = |rows: &Range<usize>| AnswerScore::new(sum(rows), rows.len());
    let scores = scored.pairs.iter().map(|pair| PairScores {
        chosen: answer(&pair.chosen),
        rejected: (!pair.rejected.is_empty()).then(|| answer(&pair.rejected)),
        prompt: (!pair.prompt.is_empty())
            .then(|| PromptScore { logp_sum: sum(&pair.prompt), tokens: pair.prompt.len() }),
    });
    scores.collect()
}

fn evaluate(
    objective: &Objective,
    norm: &StepNorm,
    scores: &[PairScores],
) -> Result<Vec<PairLoss>, PairError> {
    let evaluated = scores
        .iter()
        .enumerate()
        .map(|(pair, scores)| objective.evaluate(scores, norm).map_err(|source| PairError { pair, source }));
    evaluated.collect()
}

/// d loss / d log-prob of every scored token: its answer's derivative by the sum.
fn token_coefficients(scored: &ScoredRows, losses: &[PairLoss]) -> Vec<f32> {
    let mut coefficients = vec![0.0; scored.rows.len()];
    for (pair, loss) in scored.pairs.iter().zip(losses) {
        coefficients[pair.chosen.clone()].fill(loss.grad.chosen as f32);
        coefficients[pair.rejected.clone()].fill(loss.grad.rejected as f32);
        coefficients[pair.prompt.clone()].fill(loss.grad.prompt.unwrap_or(0.0) as f32);
    }
    coefficients
}
