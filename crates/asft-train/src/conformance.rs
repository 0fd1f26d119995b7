//! Whether a backend computes what another one does, from a single operation to optimizer steps and generation.
//!
//! The embedded quickstart's model and pairs are all that it needs, so a program can check any machine that it runs on.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

use asft_core::{Objective, StepNorm};
use asft_data::{EncodedPair, PairBatch};
use asft_model::{
    AttentionLayout, Llama, LlamaBackend, LlamaConfig, ModelError, Span, Stream, TrainBackend, WeightType,
    checkpoint::{Checkpoint, RandomWeights, WeightSource, write_model},
    generate::{Event, Generator, Request, Sampling},
    ops::AttentionInputs,
    parameters,
};
use burn::{
    module::AutodiffModule,
    tensor::{DType, Tensor, TensorData, TensorPrimitive, backend::Backend},
};
use half::bf16;
use serde::Serialize;

use crate::{
    Alone, Job, Phases, Reference, RunConfig, StepError, TrainError, Trainer,
    engine::{self, MicroBatch},
    gradients::Gradients,
    quickstart,
};

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What is compared.
    pub name: &'static str,
    /// Of what the difference is the largest, where that is one thing of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// The largest difference, in the terms of [`Allowed`].
    pub difference: f64,
    /// The most that it may be.
    pub allowed: f64,
}

impl Check {
    /// Whether the difference is allowed; one that is no number is not.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.difference <= self.allowed
    }
}

/// What may differ, by the precision of products.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowed {
    /// Log-prob sums, relative.
    pub log_probs: f64,
    /// All gradients together, and numbers of training steps: the norm of the difference over the norm.
    pub gradients: f64,
    /// Gradient of one parameter, likewise. transformers' own bf16 is 3.1e-2 from its f32 (`goldens/bf16.py`).
    pub gradient: f64,
    /// Attention by itself, likewise.
    pub attention: f64,
    /// Nats by which a generated token is less likely than the likeliest.
    pub regret: f64,
}

impl Allowed {
    /// Products in f32.
    pub const F32: Self =
        Self { log_probs: 1e-4, gradients: 1e-3, gradient: 1e-3, attention: 1e-4, regret: 1e-3 };
    /// Products whose operands are rounded to 10 bits, as tensor cores take f32.
    pub const TF32: Self =
        Self { log_probs: 2e-3, gradients: 1e-2, gradient: 1e-2, attention: 2e-3, regret: 2e-2 };
    /// Weights and activations in bf16.
    pub const BF16: Self =
        Self { log_probs: 2e-2, gradients: 2e-2, gradient: 3e-2, attention: 2e-2, regret: 0.1 };
}

/// Failures of what is compared, not of the comparison.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// Embedded inputs, or the files of the round trip.
    #[error(transparent)]
    Train(Box<TrainError>),
    /// A step that gave numbers which are none.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl From<TrainError> for ConformanceError {
    fn from(error: TrainError) -> Self {
        Self::Train(Box::new(error))
    }
}

/// Compares `A` in weights of `weight_type` with `R` in f32.
///
/// # Errors
/// If `A` does not train in the type, or its numbers are not finite.
pub fn compare<R: TrainBackend, A: TrainBackend>(
    reference_device: &R::Device,
    device: &A::Device,
    weight_type: WeightType,
    allowed: Allowed,
) -> Result<Vec<Check>, ConformanceError> {
    let expected = Numbers::of::<R>(reference_device, WeightType::F32, weight_type)?;
    let got = Numbers::of::<A>(device, weight_type, weight_type)?;
    let check = |name, difference, allowed| Check { name, of: None, difference, allowed };
    let part = |name, got: &[Vec<f64>], expected: &[Vec<f64>], allowed| {
        assert_eq!(got.len(), expected.len(), "{name}");
        let differences = got.iter().zip(expected).map(|(got, expected)| distance(got, expected));
        check(name, worst(differences), allowed)
    };
    let by_path = expected.gradients.iter().map(|(path, gradient)| {
        let got = got.gradients.get(path).map_or(&[][..], Vec::as_slice);
        (distance(got, gradient), path.clone())
    });
    let (difference, path) = by_path.max_by(|a, b| a.0.total_cmp(&b.0)).expect("models have weights");
    let whole = |numbers: &Numbers| [numbers.gradients.values().flatten().copied().collect::<Vec<f64>>()];
    Ok(vec![
        part("attention, forward", &got.attention[..1], &expected.attention[..1], allowed.attention),
        part("attention, backward", &got.attention[1..], &expected.attention[1..], allowed.gradients),
        part("log-prob sums", &got.log_probs, &expected.log_probs, allowed.log_probs),
        part("gradients", &whole(&got), &whole(&expected), allowed.gradients),
        Check { name: "gradient of a parameter", of: Some(path), difference, allowed: allowed.gradient },
        part("four optimizer steps", &got.steps, &expected.steps, allowed.gradients),
        check("weights written and read", got.lost, 0.0),
        check(
            "greedy generation",
            regret::<R::InnerBackend>(&got.answers, weight_type, reference_device)?,
            allowed.regret,
        ),
    ])
}

/// What one backend gives.
struct Numbers {
    /// Output, and gradients of q, k and v.
    attention: Vec<Vec<f64>>,
    /// Of each answer.
    log_probs: Vec<Vec<f64>>,
    /// By parameter.
    gradients: BTreeMap<String, Vec<f64>>,
    /// Loss, gradient norm and mean log-probs of both answers, each by step.
    steps: Vec<Vec<f64>>,
    /// Weights that a checkpoint did not keep.
    lost: f64,
    /// Prompts with what was added to them.
    answers: Vec<(Vec<u32>, Vec<u32>)>,
}

impl Numbers {
    /// What is computed in `weight_type` from weights and inputs that are representable in `values`.
    fn of<A: TrainBackend>(
        device: &A::Device,
        weight_type: WeightType,
        values: WeightType,
    ) -> Result<Self, ConformanceError> {
        let job = job(weight_type)?;
        job.weight_type::<A>(device)?;
        let pairs = job.train.pairs[..8].to_vec();
        let config = job.model_config.clone();
        let model = model::<A>(weight_type, values, &config, device)?;
        let (log_probs, gradients) = loss_and_gradients::<A>(&model, &config, &pairs, device)?;
        let frozen = model.valid();
        Ok(Self {
            attention: attention::<A::InnerBackend>(weight_type, values, device),
            log_probs,
            gradients,
            lost: lost_in_a_checkpoint(&frozen, &config, weight_type, device)?,
            answers: answers(&frozen, &config, &pairs),
            steps: steps::<A>(job, device)?,
        })
    }
}

/// Four steps over the embedded pairs, in file order.
fn job(weight_type: WeightType) -> Result<Job, TrainError> {
    let assignments = [
        &format!("model.dtype=\"{}\"", weight_type.name()),
        "data.shuffle=false",
        "optimizer.learning_rate=1e-3",
        "optimizer.weight_decay=0.1",
        "train.max_steps=4",
        "train.pairs_per_step=4",
        "train.segments=2",
        "train.micro_batch_tokens=400",
    ];
    let config = RunConfig::parse(quickstart::CONFIG, "quickstart", None, &assignments.map(str::to_owned))?;
    Job::read(config)
}

/// The embedded model, with weights far enough from 0 that its layers do something.
fn model<B: LlamaBackend>(
    weight_type: WeightType,
    values: WeightType,
    config: &LlamaConfig,
    device: &B::Device,
) -> Result<Llama<B>, TrainError> {
    let mut weights = Representable { weights: RandomWeights::new(1, 0.15), values };
    Ok(Llama::load_as(weight_type, None, config, &mut weights, device)?)
}

/// Random weights as a checkpoint of type `values` would hold them, so that both sides begin with the same.
struct Representable {
    weights: RandomWeights,
    values: WeightType,
}

impl WeightSource for Representable {
    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let mut weights = self.weights.weight(name, shape)?;
        weights.iter_mut().for_each(|weight| *weight = representable(*weight, self.values));
        Ok(weights)
    }
}

fn representable(value: f32, values: WeightType) -> f32 {
    match values {
        WeightType::F32 => value,
        WeightType::Bf16 => bf16::from_f32(value).to_f32(),
    }
}

fn steps<A: TrainBackend>(job: Job, device: &A::Device) -> Result<Vec<Vec<f64>>, ConformanceError> {
    let mut trainer = Trainer::<A>::new(job, Reference::None, None, &Alone, device)?;
    let mut numbers = vec![vec![]; 4];
    for _ in 0..4 {
        let row = trainer.make_step()?;
        let metrics = row.metrics;
        let step = [Some(metrics.loss), row.grad_norm, Some(metrics.logps_chosen), metrics.logps_rejected];
        numbers.iter_mut().zip(step).for_each(|(kind, value)| kind.push(value.unwrap_or(f64::NAN)));
    }
    Ok(numbers)
}

/// Log-prob sums of each answer, and the gradient of ASFT by parameter.
#[expect(clippy::type_complexity, reason = "two results")]
fn loss_and_gradients<A: TrainBackend>(
    model: &Llama<A>,
    config: &LlamaConfig,
    pairs: &[EncodedPair],
    device: &A::Device,
) -> Result<(Vec<Vec<f64>>, BTreeMap<String, Vec<f64>>), ConformanceError> {
    let batch = PairBatch::new(pairs);
    let scores = engine::score(&model.valid(), config, &batch, false, device);
    let sums = scores
        .iter()
        .map(|pair| vec![pair.chosen.logp_sum, pair.rejected.map_or(f64::NAN, |rejected| rejected.logp_sum)]);
    let objective = Objective::by_name("asft").expect("it is one");
    let norm = StepNorm { pairs: pairs.len(), nll_tokens: pairs.iter().map(|pair| pair.chosen.len()).sum() };
    let micro_batch = MicroBatch {
        batch: &batch,
        objective: &objective,
        norm: &norm,
        references: &[],
        segments: 2,
        dropout: None,
    };
    let mut gradients = Gradients::default();
    engine::accumulate(model, config, micro_batch, &mut gradients, &mut Phases::default(), device).map_err(
        |error| StepError::Loss {
            step: 1,
            pair: error.pair,
            origin: pairs[error.pair].origin.clone(),
            source: error.source,
        },
    )?;
    let mut by_path = BTreeMap::new();
    parameters::for_each(&model.valid(), |path, _, _| {
        let gradient = gradients.take(path).map(host).unwrap_or_default();
        by_path.insert(path.to_owned(), gradient);
    });
    Ok((sums.collect(), by_path))
}

/// Output and gradients of attention over spans of many and of one token, with and without a prefix.
fn attention<B: LlamaBackend>(
    weight_type: WeightType,
    values: WeightType,
    device: &B::Device,
) -> Vec<Vec<f64>> {
    const DIM: usize = 16;
    let spans =
        [(0..0, 0..300), (0..260, 300..371), (371..371, 371..372), (371..372, 372..373), (0..0, 373..390)];
    let layout = AttentionLayout::new(spans.map(|(prefix, own)| Span { prefix, own }).to_vec());
    let tokens = layout.tokens();
    let rows = |heads: usize, seed: usize| {
        let value = |i: usize| ((i * 7919 + seed) % 2003) as f32 / 500.0 - 2.0;
        let numbers: Vec<f32> = (0..tokens * heads * DIM).map(|i| representable(value(i), values)).collect();
        let dtype = DType::from(weight_type.dtype());
        let data = TensorData::new(numbers, [tokens, heads, DIM]);
        let tensor = Tensor::<B, 3>::from_data(data, (device, DType::F32)).cast(dtype);
        tensor.into_primitive().tensor()
    };
    let inputs = AttentionInputs::<B> {
        q: rows(4, 1),
        k: rows(2, 2),
        v: rows(2, 3),
        layout: Arc::new(layout),
        scale: 1.0 / (DIM as f64).sqrt(),
    };
    let (out, lse) = B::packed_attention_forward(inputs.clone());
    let [dq, dk, dv] = B::packed_attention_backward(inputs, out.clone(), lse, rows(4, 4));
    let flat = |primitive| host(Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(primitive)));
    [out, dq, dk, dv].map(flat).to_vec()
}

/// Weights that are not the same after they were written and read.
fn lost_in_a_checkpoint<B: LlamaBackend>(
    model: &Llama<B>,
    config: &LlamaConfig,
    weight_type: WeightType,
    device: &B::Device,
) -> Result<f64, TrainError> {
    let directory = tempfile::tempdir().map_err(TrainError::io(std::env::temp_dir()))?;
    write_model(directory.path(), config, model, &[])?;
    let mut checkpoint = Checkpoint::open(directory.path())?;
    let again = Llama::<B>::load_as(weight_type, None, config, checkpoint.weights(), device)?;
    let mut values = BTreeMap::new();
    parameters::for_each(&again, |path, tensor, _| _ = values.insert(path.to_owned(), tensor.into_data()));
    let mut lost = 0;
    parameters::for_each(model, |path, tensor, _| {
        let (before, after) = (tensor.into_data(), &values[path]);
        lost +=
            before.iter::<f32>().zip(after.iter::<f32>()).filter(|(before, after)| before != after).count();
    });
    Ok(lost as f64)
}

/// Prompts of pairs with 12 tokens added greedily, in batches of three.
fn answers<B: LlamaBackend>(
    model: &Llama<B>,
    config: &LlamaConfig,
    pairs: &[EncodedPair],
) -> Vec<(Vec<u32>, Vec<u32>)> {
    let requests: Vec<Request> = pairs
        .iter()
        .take(5)
        .map(|pair| Request { prompt: pair.prompt.clone(), max_new_tokens: 12, sampling: Sampling::GREEDY })
        .collect();
    let mut answers: Vec<_> = requests.iter().map(|request| (request.prompt.clone(), vec![])).collect();
    let mut numbered = requests.into_iter().enumerate();
    let _ = Generator::new(model, config, &BTreeSet::new()).run(&mut numbered, 3, &mut |event| {
        if let Event::Token(place, token) = event {
            answers[place].1.push(token);
        }
        ControlFlow::Continue(())
    });
    answers
}

/// The most nats by which a token of `answers` is less likely than the likeliest there.
fn regret<B: LlamaBackend>(
    answers: &[(Vec<u32>, Vec<u32>)],
    values: WeightType,
    device: &B::Device,
) -> Result<f64, TrainError> {
    let config = quickstart::model_config()?;
    let model = model::<B>(WeightType::F32, values, &config, device)?;
    let mut regrets = vec![];
    for (prompt, answer) in answers {
        let ids: Vec<u32> = prompt.iter().chain(answer).copied().collect();
        let stream = Stream::of_sequence(&config, ids.len(), device);
        let hidden = model.hidden_states(&ids, &stream);
        let logits = host(hidden.matmul(model.head_weight().transpose()));
        let rows = logits.chunks_exact(config.vocab_size).skip(prompt.len() - 1);
        for (logits, &token) in rows.zip(answer) {
            regrets.push(logits.iter().copied().fold(f64::MIN, f64::max) - logits[token as usize]);
        }
    }
    assert!(!regrets.is_empty(), "answers have tokens");
    Ok(worst(regrets))
}

fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Norm of the difference over the norm of what is expected; infinite where there is nothing to compare,
/// one is no number or their lengths differ.
fn distance(got: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut got.iter().zip(expected).map(|(got, expected)| got - expected));
    let relative = difference / norm(&mut expected.iter().copied()).max(1e-12);
    match !got.is_empty() && got.len() == expected.len() && relative.is_finite() {
        true => relative,
        false => f64::INFINITY,
    }
}

fn worst(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_is_no_number_does_not_pass() {
        assert_eq!(distance(&[3.0, 4.0], &[3.0, 0.0]), 4.0 / 3.0);
        assert_eq!(distance(&[1.0], &[1.0, 2.0]), f64::INFINITY);
        assert_eq!(distance(&[f64::NAN], &[1.0]), f64::INFINITY);
        assert_eq!(distance(&[], &[]), f64::INFINITY);
        let check = |difference| Check { name: "x", of: None, difference, allowed: 1.0 };
        assert!(check(1.0).passed() && !check(1.1).passed() && !check(f64::NAN).passed());
    }
}
