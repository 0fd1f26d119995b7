//! From the last hidden states to losses and back: the head's part of a micro-batch.
//!
//! Scores go to the host, where the objective turns them into a coefficient for each answer's log-probs. Rows
//! whose coefficient follows from token counts alone (the chosen answer's under ASFT and SFT, a prompt's) go through
//! first, for score and gradient together. The others go pair by pair, as many whole pairs at a time as a chunk
//! of logits holds, so that theirs too are made once; only a pair of more rows than a chunk makes them twice.

use std::ops::Range;

use asft_core::{
    AnswerScore, KnownGrad, Objective, PairError, PairLoss, PairScores, PromptScore, ReferenceSums, StepNorm,
};
use asft_data::pack::{ScoredPair, ScoredRows, micro_batches};
use asft_model::{LlamaBackend, head};
use burn::tensor::{Int, Tensor, TensorData, backend::Backend, s};

/// Scored rows in the order in which they go through the head.
#[derive(Debug)]
pub struct HeadPass<'a> {
    scored: ScoredRows,
    objective: &'a Objective,
    norm: &'a StepNorm,
    /// Of each pair; empty where the objective needs none.
    references: &'a [ReferenceSums],
    /// Index into the scored rows, those with a known coefficient first, then the others by pair.
    order: Vec<usize>,
    /// Coefficients of the first rows in `order`.
    known: Vec<f32>,
    /// Number of other rows of each pair.
    open: Vec<usize>,
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
    /// Gradient by the head's matrix, added to what was passed in, f32; `None` where nothing was.
    pub weight_grad: Option<Tensor<B, 2>>,
}

impl<'a> HeadPass<'a> {
    /// Prepares the rows of a micro-batch. `references` has an entry a pair, or none.
    pub fn new(
        scored: ScoredRows,
        objective: &'a Objective,
        norm: &'a StepNorm,
        references: &'a [ReferenceSums],
    ) -> Self {
        let (mut order, mut known, mut rest, mut open) = (vec![], vec![], vec![], vec![]);
        for pair in &scored.pairs {
            let before = rest.len();
            let prompt = pair.prompt.as_ref();
            let KnownGrad { chosen, prompt: prompt_grad } =
                objective.known_grad(pair.chosen.len(), prompt.map(Range::len), norm);
            let parts = [(Some(&pair.chosen), chosen), (prompt, prompt_grad), (Some(&pair.rejected), None)];
            for (rows, gradient) in parts {
                let Some(rows) = rows else { continue };
                match gradient {
                    Some(gradient) => {
                        order.extend(rows.clone());
                        known.resize(order.len(), gradient as f32);
                    }
                    None => rest.extend(rows.clone()),
                }
            }
            open.push(rest.len() - before);
        }
        order.extend(rest);
        let in_order = |values: &[u32]| order.iter().map(|&row| values[row]).collect();
        let (rows, labels) = (in_order(&scored.rows), in_order(&scored.labels));
        Self { scored, objective, norm, references, order, known, open, rows, labels }
    }

    /// Stream indices of the rows that [`Self::run`] takes.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Losses and gradients for `hidden` `[rows, hidden]`, the normed states of [`Self::rows`], under the
    /// head's matrix `weight` `[vocab, hidden]`, whose gradient so far is `weight_grad`; `None` where it is frozen.
    pub fn run<B: LlamaBackend>(
        &self,
        hidden: Tensor<B, 2>,
        weight: &Tensor<B, 2>,
        weight_grad: Option<Tensor<B, 2>>,
    ) -> Result<HeadPassed<B>, PairError> {
        let mut log_probs = vec![0.0; self.order.len()];
        let mut start = self.known.len();
        let known = hidden.clone().slice(s![..start]);
        let known = head::backward(known, weight, &self.labels[..start], &self.known, weight_grad);
        place(&mut log_probs, &self.order[..start], &known.log_probs);

        let (mut hidden_grads, mut weight_grad) = (vec![known.hidden], known.weight);
        let mut losses = Vec::with_capacity(self.open.len());
        for pairs in micro_batches(&self.open, head::chunk_rows(weight.dims()[0])) {
            let end = start + self.open[pairs.clone()].iter().sum::<usize>();
            let order = &self.order[start..end];
            let passed = head::backward_by_log_probs(
                hidden.clone().slice(s![start..end]),
                weight,
                &self.labels[start..end],
                weight_grad,
                |found| {
                    place(&mut log_probs, order, found);
                    let mut coefficients = vec![0.0; self.order.len()];
                    for pair in pairs {
                        let loss = self.evaluate(pair, &log_probs)?;
                        fill(&mut coefficients, &self.scored.pairs[pair], &loss);
                        losses.push(loss);
                    }
                    Ok(order.iter().map(|&row| coefficients[row]).collect())
                },
            )?;
            hidden_grads.push(passed.hidden);
            weight_grad = passed.weight;
            start = end;
        }
        Ok(HeadPassed { losses, hidden_grad: Tensor::cat(hidden_grads, 0), weight_grad })
    }

    fn evaluate(&self, pair: usize, log_probs: &[f32]) -> Result<PairLoss, PairError> {
        let mut scores = scores(&self.scored.pairs[pair], log_probs);
        if let Some(&reference) = self.references.get(pair) {
            scores = scores.with_reference(reference);
        }
        self.objective.evaluate(&scores, self.norm).map_err(|source| PairError { pair, source })
    }
}

/// Indices of rows on the device.
pub fn row_index<B: Backend>(rows: &[u32], device: &B::Device) -> Tensor<B, 1, Int> {
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let length = rows.len();
    Tensor::from_data(TensorData::new(rows, [length]), device)
}

/// A pair's scores from the log-probs of all scored rows.
pub fn scores(pair: &ScoredPair, log_probs: &[f32]) -> PairScores {
    let answer = |rows: &Range<usize>| {
        let log_probs = &log_probs[rows.clone()];
        AnswerScore::new(log_probs.iter().copied().map(f64::from).sum(), rows.len())
    };
    PairScores {
        chosen: answer(&pair.chosen),
        rejected: (!pair.rejected.is_empty()).then(|| answer(&pair.rejected)),
        prompt: pair.prompt.as_ref().map(|rows| PromptScore::from(answer(rows))),
    }
}

/// Puts the log-probs of rows where the scored rows have them.
fn place(log_probs: &mut [f32], order: &[usize], found: &[f32]) {
    order.iter().zip(found).for_each(|(&row, &log_prob)| log_probs[row] = log_prob);
}

/// d loss / d log-prob of each of a pair's scored tokens: its part's derivative by the sum.
fn fill(coefficients: &mut [f32], pair: &ScoredPair, loss: &PairLoss) {
    coefficients[pair.chosen.clone()].fill(loss.grad.chosen as f32);
    coefficients[pair.rejected.clone()].fill(loss.grad.rejected as f32);
    if let (Some(rows), Some(grad)) = (&pair.prompt, loss.grad.prompt) {
        coefficients[rows.clone()].fill(grad as f32);
    }
}
