//! The objectives as a loss for Burn training loops: config, `init`, `forward`.
//!
//! The loss of a pair depends on a handful of scalars, so they are read back and everything is computed on the host
//! in `f64` by the same code as everywhere else ([`Objective::evaluate`]). The tensor returned holds that loss, and its
//! backward hands exactly the host's derivatives, rounded to the tensor's type, to the log-prob sums. No logarithm
//! is differentiated by a backend, so every backend gives the same result. `forward` waits for the device.
//!
//! ```
//! # #[cfg(feature = "flex")] {
//! use asft_core::{Asft, tensor::{LogProbs, PairLogProbs, PreferenceLossConfig}};
//! use burn::{backend::{Autodiff, Flex}, tensor::Tensor};
//!
//! type B = Autodiff<Flex>;
//! let device = Default::default();
//! // one sum of log-probs per pair, from your model's log-softmax in f32
//! let chosen = Tensor::<B, 1>::from_floats([-96.0, -12.0], &device).require_grad();
//! let rejected = Tensor::<B, 1>::from_floats([-121.0, -30.0], &device).require_grad();
//!
//! let loss = PreferenceLossConfig::new(Asft::default().into()).init()?;
//! let value = loss.forward(PairLogProbs {
//!     chosen: LogProbs::new(chosen.clone(), vec![96, 24]),
//!     rejected: Some(LogProbs::new(rejected, vec![110, 12])),
//!     prompt: None,
//! })?;
//! let gradients = value.backward();
//! // at temperature 1 the chosen side is SFT times 1 + beta: -1.1 / tokens / pairs
//! let by_chosen: Vec<f32> = chosen.grad(&gradients).unwrap().into_data().to_vec().unwrap();
//! assert!((by_chosen[0] + 1.1 / 96.0 / 2.0).abs() < 1e-8);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use burn::config::Config;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};

use crate::error::{ConfigError, PairError};
use crate::metrics::MetricsSum;
use crate::objective::Objective;
use crate::score::{AnswerScore, PairScores, Side};
use crate::step::{PairGrad, StepNorm};
use crate::sum::ExactSum;

/// Configuration of [`PreferenceLoss`].
#[derive(Config, Debug)]
pub struct PreferenceLossConfig {
    /// The objective with its settings.
    pub objective: Objective,
}

impl PreferenceLossConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the first key that is out of its range.
    pub fn init(&self) -> Result<PreferenceLoss, ConfigError> {
        self.objective.validate()?;
        Ok(PreferenceLoss { objective: self.objective.clone() })
    }
}

/// Log-probs of one part of the pairs in a batch.
#[derive(Debug, Clone)]
pub struct LogProbs<B: Backend> {
    /// `[pairs]`, f32 or f64: sum of log-probs over the scored tokens.
    pub sums: Tensor<B, 1>,
    /// `[pairs]`: number of scored tokens; for the prompt all but the first.
    pub tokens: Vec<usize>,
    /// `[pairs]`: the same sums under the reference model. A constant: nothing flows back into it.
    pub reference: Option<Tensor<B, 1>>,
}

impl<B: Backend> LogProbs<B> {
    /// Without a reference model.
    #[must_use]
    pub fn new(sums: Tensor<B, 1>, tokens: Vec<usize>) -> Self {
        Self { sums, tokens, reference: None }
    }

    /// Adds the sums under the reference model, `[pairs]`.
    #[must_use]
    pub fn with_reference(self, reference: Tensor<B, 1>) -> Self {
        Self { reference: Some(reference), ..self }
    }
}

/// Log-probs of a batch of pairs.
#[derive(Debug, Clone)]
pub struct PairLogProbs<B: Backend> {
    /// The preferred answers.
    pub chosen: LogProbs<B>,
    /// The dispreferred answers; only `sft` does without.
    pub rejected: Option<LogProbs<B>>,
    /// The prompts on the chosen rows, for `nll_scope = "prompt_response"`.
    pub prompt: Option<LogProbs<B>>,
}

/// Why a batch has no loss.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TensorError {
    /// Parts of the batch that do not have one entry per pair.
    #[error("{side}.{field} has {got} entries, but the batch has {pairs} pairs")]
    Shape {
        /// The part concerned.
        side: Side,
        /// `sums`, `tokens` or `reference`.
        field: &'static str,
        /// Its length.
        got: usize,
        /// Length of `chosen.tokens`.
        pairs: usize,
    },
    /// Sums in a type that cannot hold them: bf16 has a spacing of 2 at -300.
    #[error("{side}.{field} is {dtype:?}; cast token log-probs to f32 before they are summed")]
    Precision {
        /// The part concerned.
        side: Side,
        /// `sums` or `reference`.
        field: &'static str,
        /// The type found.
        dtype: DType,
    },
    /// The device failed while the sums were read.
    #[error("reading the log-prob sums failed: {0}")]
    Device(String),
    /// A batch of no pairs; its mean would be 0/0.
    #[error("the batch has no pairs")]
    Empty,
    /// A value that f32 sums cannot carry.
    #[error("{what} is {value:e}, which f32 cannot hold; a log-prob sum is out of any plausible range")]
    Range {
        /// `loss`, `grad_chosen`, ….
        what: &'static str,
        /// The value in f64.
        value: f64,
    },
    /// A pair the objective refuses.
    #[error(transparent)]
    Pair(#[from] PairError),
}

/// A preference objective as a loss on tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceLoss {
    objective: Objective,
}

impl PreferenceLoss {
    /// Loss of a batch that is a whole optimizer step.
    ///
    /// # Shapes
    /// - output: `[1]`
    ///
    /// # Errors
    /// See [`TensorError`].
    pub fn forward<B: Backend>(&self, batch: PairLogProbs<B>) -> Result<Tensor<B, 1>, TensorError> {
        Ok(self.forward_micro_batch(batch, None)?.0)
    }

    /// What a micro-batch adds to the loss of its step, and the metrics of its pairs.
    ///
    /// `norm` is the **step's** ([`Objective::nll_tokens`] says what a pair adds to it), so that the sum over any
    /// split is the same loss; `None` takes the batch as the whole step.
    ///
    /// # Shapes
    /// - output: `[1]`
    ///
    /// # Errors
    /// See [`TensorError`].
    pub fn forward_micro_batch<B: Backend>(
        &self,
        batch: PairLogProbs<B>,
        norm: Option<StepNorm>,
    ) -> Result<(Tensor<B, 1>, MetricsSum), TensorError> {
        let PairLogProbs { chosen, rejected, prompt } = batch;
        let (pairs, dtype) = (chosen.tokens.len(), chosen.sums.dtype());
        if pairs == 0 {
            return Err(TensorError::Empty);
        }
        let chosen = Part::read(Side::Chosen, chosen, pairs)?;
        let rejected = rejected.map(|part| Part::read(Side::Rejected, part, pairs)).transpose()?;
        let prompt = prompt.map(|part| Part::read(Side::Prompt, part, pairs)).transpose()?;
        let scores: Vec<_> = (0..pairs)
            .map(|pair| PairScores {
                chosen: chosen.scores[pair],
                rejected: rejected.as_ref().map(|part| part.scores[pair]),
                prompt: prompt.as_ref().map(|part| part.scores[pair].into()),
            })
            .collect();
        let norm = norm.unwrap_or_else(|| self.objective.norm(&scores));

        let (mut loss, mut metrics) = (ExactSum::default(), MetricsSum::default());
        let mut grads = Vec::with_capacity(pairs);
        for (pair, scores) in scores.iter().enumerate() {
            let result =
                self.objective.evaluate(scores, &norm).map_err(|source| PairError { pair, source })?;
            loss.add(result.loss);
            metrics.add(&result.metrics);
            grads.push(result.grad);
        }
        let weights = |of: fn(&PairGrad) -> f64| grads.iter().map(of).collect::<Vec<_>>();
        let mut total = chosen.zero_with_slope(&weights(|grad| grad.chosen))?;
        if let Some(part) = rejected {
            total = total + part.zero_with_slope(&weights(|grad| grad.rejected))?.cast(dtype);
        }
        if let Some(part) = prompt {
            total = total + part.zero_with_slope(&weights(|grad| grad.prompt.unwrap_or(0.0)))?.cast(dtype);
        }
        let loss = loss.value();
        in_range(dtype, "loss", loss)?;
        Ok((total.add_scalar(loss), metrics))
    }
}

/// One part of the batch with its sums on the host.
struct Part<B: Backend> {
    side: Side,
    sums: Tensor<B, 1>,
    values: TensorData,
    scores: Vec<AnswerScore>,
}

impl<B: Backend> Part<B> {
    fn read(side: Side, part: LogProbs<B>, pairs: usize) -> Result<Self, TensorError> {
        let LogProbs { sums, tokens, reference } = part;
        if tokens.len() != pairs {
            return Err(TensorError::Shape { side, field: "tokens", got: tokens.len(), pairs });
        }
        let values = to_host(side, "sums", sums.clone(), pairs)?;
        let reference = reference.map(|sums| to_host(side, "reference", sums, pairs)).transpose()?;
        let mut scores: Vec<_> =
            values.iter::<f64>().zip(tokens).map(|(sum, tokens)| AnswerScore::new(sum, tokens)).collect();
        if let Some(reference) = reference {
            for (score, sum) in scores.iter_mut().zip(reference.iter::<f64>()) {
                score.ref_logp_sum = Some(sum);
            }
        }
        Ok(Self { side, sums, values, scores })
    }

    /// Zero, `[1]`, whose derivative by the sums is `weights`: `Σ weights · (sums - constant)` at `sums = constant`.
    ///
    /// The constant is made of the values read to the host, so the difference is exactly 0 and the loss added to it
    /// keeps every digit. (`detach` would not do: on a leaf it stays tracked.)
    fn zero_with_slope(self, weights: &[f64]) -> Result<Tensor<B, 1>, TensorError> {
        let (device, dtype) = (self.sums.device(), self.sums.dtype());
        let what = match self.side {
            Side::Chosen => "grad_chosen",
            Side::Rejected => "grad_rejected",
            Side::Prompt => "grad_prompt",
        };
        weights.iter().try_for_each(|&weight| in_range(dtype, what, weight))?;
        let constant = |data| Tensor::from_data(data, (&device, dtype));
        let weights = constant(TensorData::from(weights).convert_dtype(dtype));
        Ok(((self.sums - constant(self.values)) * weights).sum())
    }
}

fn to_host<B: Backend>(
    side: Side,
    field: &'static str,
    sums: Tensor<B, 1>,
    pairs: usize,
) -> Result<TensorData, TensorError> {
    let ([got], dtype) = (sums.dims(), sums.dtype());
    if got != pairs {
        return Err(TensorError::Shape { side, field, got, pairs });
    }
    if !matches!(dtype, DType::F32 | DType::F64) {
        return Err(TensorError::Precision { side, field, dtype });
    }
    sums.try_into_data().map_err(|error| TensorError::Device(error.to_string()))
}

/// Refuses what is finite in f64 and infinite in the tensor's type.
fn in_range(dtype: DType, what: &'static str, value: f64) -> Result<(), TensorError> {
    if dtype == DType::F32 && !(value as f32).is_finite() {
        return Err(TensorError::Range { what, value });
    }
    Ok(())
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use std::sync::{Mutex, MutexGuard};

    use burn::backend::{Autodiff, Flex};
    use burn::tensor::{Element, Tensor};

    use super::*;
    use crate::{Asft, NllReduction, NllScope, Orpo, PairLoss, Sft};

    type B = Autodiff<Flex>;

    /// Burn 0.21 sweeps the graphs of every thread in each `backward`, so tests with graphs take turns.
    fn one_graph_at_a_time() -> MutexGuard<'static, ()> {
        static GRAPH: Mutex<()> = Mutex::new(());
        GRAPH.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    const CHOSEN: ([f64; 4], [usize; 4]) = ([-96.0, -12.0, -0.5, 0.0], [96, 24, 1, 7]);
    const REJECTED: ([f64; 4], [usize; 4]) = ([-121.0, -30.0, -0.25, 0.0], [110, 12, 1, 5]);
    const PROMPT: ([f64; 4], [usize; 4]) = ([-245.5, -80.0, 0.0, -510.0], [87, 31, 0, 200]);

    fn objectives() -> Vec<Objective> {
        let (scope, token) = (NllScope::PromptResponse, NllReduction::Token);
        vec![
            Asft::default().into(),
            Asft { beta: 0.3, temperature: 0.5, ..Asft::default() }.into(),
            Asft { nll_scope: scope, nll_reduction: token, ..Asft::default() }.into(),
            Sft::default().into(),
            Sft { nll_scope: scope, nll_reduction: token }.into(),
            Orpo::default().into(),
            Orpo { nll_scope: scope, beta: 1.0, ..Orpo::default() }.into(),
        ]
    }

    fn loss(objective: &Objective) -> PreferenceLoss {
        PreferenceLossConfig::new(objective.clone()).init().unwrap()
    }

    fn leaf<E: Element>(values: &[f64], range: std::ops::Range<usize>) -> Tensor<B, 1> {
        let data = TensorData::from(&values[range]).convert::<E>();
        Tensor::from_data(data, (&Default::default(), E::dtype())).require_grad()
    }

    fn host(range: std::ops::Range<usize>) -> Vec<PairScores> {
        let score = |(sums, tokens): ([f64; 4], [usize; 4]), i: usize| AnswerScore::new(sums[i], tokens[i]);
        let pair = |i| PairScores {
            prompt: Some(score(PROMPT, i).into()),
            ..PairScores::new(score(CHOSEN, i), score(REJECTED, i))
        };
        range.map(pair).collect()
    }

    fn batch<E: Element>(range: std::ops::Range<usize>) -> PairLogProbs<B> {
        let part = |(sums, tokens): ([f64; 4], [usize; 4])| {
            LogProbs::new(leaf::<E>(&sums, range.clone()), tokens[range.clone()].to_vec())
        };
        PairLogProbs { chosen: part(CHOSEN), rejected: Some(part(REJECTED)), prompt: Some(part(PROMPT)) }
    }

    fn values(tensor: Tensor<Flex, 1>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    fn check_gradients<E: Element>(objective: &Objective, round: fn(f64) -> f64) {
        let expected = objective.evaluate_step(&host(0..4)).unwrap();
        let batch = batch::<E>(0..4);
        let leaves = [&batch.chosen, batch.rejected.as_ref().unwrap(), batch.prompt.as_ref().unwrap()]
            .map(|part| part.sums.clone());
        let value = loss(objective).forward(batch).unwrap();
        let total = objective.report_step(&host(0..4)).unwrap().loss;
        assert_eq!(values(value.clone().inner()), [round(total)], "{objective:?}");
        // a factor after the loss must reach the gradients: this is a node of the graph like any other
        let gradients = (value * 2.0).backward();
        let by: [fn(&PairLoss) -> f64; 3] =
            [|pair| pair.grad.chosen, |pair| pair.grad.rejected, |pair| pair.grad.prompt.unwrap_or(0.0)];
        for (leaf, of) in leaves.iter().zip(by) {
            let want: Vec<_> = expected.iter().map(|pair| 2.0 * round(of(pair))).collect();
            assert_eq!(values(leaf.grad(&gradients).unwrap()), want, "{objective:?}");
        }
    }

    #[test]
    fn backward_gives_the_host_derivatives() {
        let _turn = one_graph_at_a_time();
        for objective in objectives() {
            check_gradients::<f32>(&objective, |x| f64::from(x as f32));
            check_gradients::<f64>(&objective, |x| x);
        }
    }

    #[test]
    fn micro_batches_add_up_to_the_step() {
        let _turn = one_graph_at_a_time();
        for objective in objectives() {
            let (loss, step) = (loss(&objective), objective.report_step(&host(0..4)).unwrap());
            for cuts in [&[0, 4][..], &[0, 1, 4], &[0, 2, 3, 4]] {
                let (mut total, mut grads, mut metrics) = (0.0, Vec::new(), MetricsSum::default());
                for cut in cuts.windows(2) {
                    let batch = batch::<f32>(cut[0]..cut[1]);
                    let leaf = batch.chosen.sums.clone();
                    let norm = Some(objective.norm(&host(0..4)));
                    let (value, seen) = loss.forward_micro_batch(batch, norm).unwrap();
                    total += values(value.clone().inner())[0];
                    grads.extend(values(leaf.grad(&value.backward()).unwrap()));
                    metrics.merge(&seen);
                }
                assert!(
                    (total - step.loss).abs() <= 1e-6 * step.loss,
                    "{objective:?}: {total} {}",
                    step.loss
                );
                let want: Vec<_> = step.grad_chosen.iter().map(|&grad| f64::from(grad as f32)).collect();
                assert_eq!(grads, want, "{objective:?}");
                assert_eq!(metrics.mean(), Some(step.metrics), "{objective:?}");
            }
        }
    }

    #[test]
    fn the_loss_of_a_sum_over_tokens_reaches_every_token() {
        let _turn = one_graph_at_a_time();
        let device = Default::default();
        // two answers of 2 and 3 tokens, padded: the sum is part of the graph, as in a training loop
        let logps =
            Tensor::<B, 2>::from_floats([[-1.0, -2.0, 0.0], [-0.5, -0.5, -0.5]], &device).require_grad();
        let sums = logps.clone().sum_dim(1).squeeze_dim(1);
        let batch = PairLogProbs { chosen: LogProbs::new(sums, vec![2, 3]), rejected: None, prompt: None };
        let gradients = loss(&Sft::default().into()).forward(batch).unwrap().backward();
        let got: Vec<f64> = logps.grad(&gradients).unwrap().into_data().iter::<f64>().collect();
        for (got, want) in got.into_iter().zip([0.25, 0.25, 0.25, 1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0]) {
            assert!((got + want).abs() < 1e-7, "{got} {want}");
        }
    }

    #[test]
    fn works_without_autodiff() {
        let device = Default::default();
        let sums = Tensor::<Flex, 1>::from_floats([-3.0], &device);
        let batch = PairLogProbs { chosen: LogProbs::new(sums, vec![2]), rejected: None, prompt: None };
        assert_eq!(values(loss(&Sft::default().into()).forward(batch).unwrap()), [1.5]);
    }

    #[test]
    fn unusable_batches_are_refused_in_words() {
        let _turn = one_graph_at_a_time();
        let device = Default::default();
        let part = |sums: &[f64], tokens: &[usize]| {
            LogProbs::<B>::new(leaf::<f32>(sums, 0..sums.len()), tokens.to_vec())
        };
        let pair = |chosen, rejected| PairLogProbs { chosen, rejected: Some(rejected), prompt: None };
        let bf16 = LogProbs::new(part(&[-3.0], &[2]).sums.cast(DType::BF16), vec![2]);
        let reference = part(&[-3.0], &[2]).with_reference(Tensor::from_floats([f32::NAN], &device));
        let short = part(&[-3.0], &[2]).with_reference(Tensor::from_floats([-1.0, -2.0], &device));
        for (batch, message) in [
            (
                pair(part(&[-3.0], &[2]), part(&[-3.0], &[2, 2])),
                "rejected.tokens has 2 entries, but the batch has 1 pairs",
            ),
            (
                pair(part(&[-3.0, -4.0], &[2]), part(&[-3.0], &[2])),
                "chosen.sums has 2 entries, but the batch has 1 pairs",
            ),
            (pair(short, part(&[-3.0], &[2])), "chosen.reference has 2 entries, but the batch has 1 pairs"),
            (pair(bf16, part(&[-3.0], &[2])), "chosen.sums is BF16; cast"),
            (pair(part(&[-3.0], &[2]), part(&[f64::NAN], &[2])), "pair 0: rejected.logp_sum is NaN"),
            (pair(reference, part(&[-3.0], &[2])), "pair 0: chosen.ref_logp_sum is NaN"),
            (
                pair(part(&[-3.0, -3.0], &[2, 2]), part(&[-3.0, -3.0], &[2, 0])),
                "pair 1: rejected.tokens is 0",
            ),
            (pair(part(&[-3.0], &[2]), part(&[3.3e38], &[1])), "loss is 3.299"),
            (
                PairLogProbs { chosen: part(&[-3.0], &[2]), rejected: None, prompt: None },
                "pair 0: objective `asft` needs a rejected answer",
            ),
            (PairLogProbs { chosen: part(&[], &[]), rejected: None, prompt: None }, "the batch has no pairs"),
        ] {
            let error = loss(&Asft::default().into()).forward(batch).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn settings_are_checked_by_init_and_survive_json() {
        let config = PreferenceLossConfig::new(Asft { beta: -1.0, ..Asft::default() }.into());
        assert_eq!(config.init().unwrap_err().to_string(), "objective.asft.beta must be at least 0, got -1");
        let config = PreferenceLossConfig::new(Orpo { beta: 0.25, ..Orpo::default() }.into());
        let json = serde_json::to_string(&config).unwrap();
        let back: PreferenceLossConfig = serde_json::from_str(&json).unwrap();
        assert_eq!(back.objective, config.objective);
    }
}
