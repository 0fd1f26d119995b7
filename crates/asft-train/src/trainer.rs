//! The state of training and its two motions: an optimizer step and an evaluation.

use std::time::Instant;

use asft_core::{MetricsSum, PairError, StepNorm};
use asft_data::{EncodedPair, PairBatch, Sampler, pack::micro_batches};
use asft_model::{Llama, TrainBackend, lora::peft_name, parameters};
use burn::module::AutodiffModule;

use crate::{
    checkpoint::{RunState, load_moments},
    engine::{self, MicroBatch},
    error::{StepError, TrainError},
    evaluate::{ScoredPair, mean_metrics, score_pairs},
    gradients::Gradients,
    job::Job,
    metrics::{Kind, MetricsRow},
    optimizer::{AdamW, seed_of_chance},
    phases::Phases,
    reference::Reference,
    resume::ResumePoint,
};

/// A model in training. It writes nothing: [`crate::run`] keeps what it gives.
pub struct Trainer<'a, A: TrainBackend> {
    job: Job,
    device: &'a A::Device,
    /// Absent only inside [`Self::make_step`].
    model: Option<Llama<A>>,
    reference: Reference<A::InnerBackend>,
    optimizer: AdamW<A::InnerBackend>,
    sampler: Sampler,
    step: usize,
    last_pairs: Vec<usize>,
    phases: Phases,
}

impl<'a, A: TrainBackend> Trainer<'a, A> {
    /// Loads the model, the optimizer and the order of pairs, as new or as a checkpoint left them.
    pub fn new(
        mut job: Job,
        reference: Reference<A::InnerBackend>,
        resume: Option<&ResumePoint>,
        device: &'a A::Device,
    ) -> Result<Self, TrainError> {
        let settings = job.config.optimizer.clone();
        let seed = job.config.train.seed;
        let pairs = job.train.pairs.len();
        let (model, optimizer, sampler, step) = match resume {
            None => {
                let sampler = Sampler::new(pairs, job.config.train.seed, job.config.data.shuffle);
                (job.load_model(None, device)?, AdamW::new(settings, seed), sampler, 0)
            }
            Some(resume) => {
                let moments = load_moments(&resume.checkpoint, settings.state_dtype, device)?;
                let step = resume.state.step;
                let sampler = Sampler::restore(resume.state.sampler.clone(), pairs)?;
                (
                    resume.load_model(&mut job, device)?,
                    AdamW::resumed(settings, seed, step, moments),
                    sampler,
                    step,
                )
            }
        };
        Ok(Self {
            job,
            device,
            model: Some(model),
            reference,
            optimizer,
            sampler,
            step,
            last_pairs: vec![],
            phases: Phases::default(),
        })
    }

    /// What is trained.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// Steps made so far.
    pub fn step(&self) -> usize {
        self.step
    }

    /// From now on, times the phases of each step.
    pub fn time_phases(&mut self) {
        self.phases = Phases::timed();
    }

    /// Where the time of the steps went.
    pub fn phases(&self) -> &Phases {
        &self.phases
    }

    /// The model as it stands.
    pub fn model(&self) -> &Llama<A> {
        self.model.as_ref().expect("a step always puts the model back")
    }

    /// The optimizer as it stands.
    pub fn optimizer(&self) -> &AdamW<A::InnerBackend> {
        &self.optimizer
    }

    /// Where the run stands, for a checkpoint.
    pub fn state(&self) -> RunState {
        RunState {
            step: self.step,
            sampler: self.sampler.state().clone(),
            data: self.job.data_digest.clone(),
            reference: self.job.reference_digest().map(str::to_owned),
            base: self.job.base.as_ref().map(|base| base.digest.clone()),
        }
    }

    /// Makes one optimizer step. After an error the weights are those before it.
    pub fn make_step(&mut self) -> Result<MetricsRow, StepError> {
        let started = Instant::now();
        let step = self.step + 1;
        let train = &self.job.config.train;
        let objective = &self.job.config.objective;
        let indices = self.sampler.next_step(train.pairs_per_step);
        let pairs: Vec<&EncodedPair> = indices.iter().map(|&index| &self.job.train.pairs[index]).collect();
        let nll_tokens =
            pairs.iter().map(|pair| objective.nll_tokens(pair.chosen.len(), Some(pair.prompt.len() - 1)));
        let norm = StepNorm { pairs: pairs.len(), nll_tokens: nll_tokens.sum() };
        let lengths: Vec<usize> = pairs.iter().map(|pair| pair.tokens()).collect();

        let mut phases = std::mem::take(&mut self.phases);
        let mut gradients = Gradients::default();
        let mut metrics = MetricsSum::default();
        let drops = self.job.config.lora.as_ref().is_some_and(|lora| lora.dropout > 0.0);
        let ranges = micro_batches(&lengths, self.job.micro_batch_tokens);
        for (number, range) in ranges.into_iter().enumerate() {
            let pairs_of_batch = &pairs[range.clone()];
            let batch = PairBatch::new(pairs_of_batch.iter().copied());
            let references = phases.time::<A, _>("reference", self.device, || {
                let trained = || self.model().valid();
                self.reference.sums(pairs_of_batch, self.job.micro_batch_tokens, trained, self.device)
            });
            let micro_batch = MicroBatch {
                batch: &batch,
                objective,
                norm: &norm,
                references: &references,
                segments: self.job.segments,
                dropout: drops
                    .then(|| seed_of_chance(train.seed, step, &format!("dropout of micro-batch {number}"))),
            };
            let losses = engine::accumulate(
                self.model(),
                &self.job.model_config,
                micro_batch,
                &mut gradients,
                &mut phases,
                self.device,
            )
            .map_err(|PairError { pair, source }| {
                let pair = range.start + pair;
                StepError::Loss { step, pair: indices[pair], origin: pairs[pair].origin.clone(), source }
            })?;
            losses.iter().for_each(|loss| metrics.add(&loss.metrics));
        }
        let grad_norm = phases.time::<A, _>("optimizer", self.device, || gradients.norm());
        if !grad_norm.is_finite() {
            return Err(StepError::Gradient { step, norm: grad_norm, pairs: indices });
        }
        let rate = self.job.schedule.rate(self.step);
        let scale = clip_scale(grad_norm, self.job.config.optimizer.max_grad_norm);
        let tokens = lengths.iter().sum();
        let model = self.model.take().expect("a step always puts the model back");
        let updated = phases
            .time::<A, _>("optimizer", self.device, || self.optimizer.step(model, gradients, rate, scale));
        self.model = Some(updated);
        self.phases = phases;
        self.step = step;
        self.last_pairs.clone_from(&indices);

        let metrics = metrics.mean().expect("a step has pairs");
        let mut row = MetricsRow::new(Kind::Train, step, self.epoch(), metrics, indices.len(), tokens);
        row.grad_norm = Some(grad_norm);
        row.learning_rate = Some(rate);
        Ok(row.timed(started.elapsed().as_secs_f64()))
    }

    /// Fails if a weight that is trained is not finite, so that no such model is ever kept.
    pub fn check_weights(&self) -> Result<(), StepError> {
        let mut found = None;
        let lora = self.job.config.lora.is_some();
        parameters::for_each(&self.model().valid(), |path, values, _| {
            let trained = !lora || peft_name(path).is_some();
            if trained && found.is_none() && !values.into_data().iter::<f32>().all(f32::is_finite) {
                found = Some(path.to_owned());
            }
        });
        match found {
            None => Ok(()),
            Some(tensor) => {
                Err(StepError::Weights { step: self.step, tensor, pairs: self.last_pairs.clone() })
            }
        }
    }

    /// Evaluates the first `count` held-out pairs. `go_on` is told how many are done; where it says no, the
    /// result is `None`.
    pub fn evaluate(
        &self,
        count: usize,
        go_on: impl FnMut(usize) -> bool,
    ) -> Result<Option<(MetricsRow, Vec<ScoredPair>)>, StepError> {
        let Some(eval) = &self.job.eval else { return Ok(None) };
        let pairs = &eval.pairs[..count.min(eval.pairs.len())];
        let objective = &self.job.config.objective;
        let started = Instant::now();
        let scored = score_pairs(
            &self.model().valid(),
            &self.job.model_config,
            pairs,
            objective.needs_prompt_scores(),
            self.job.micro_batch_tokens,
            self.device,
            go_on,
        );
        let Some(mut scored) = scored else { return Ok(None) };
        let all: Vec<&EncodedPair> = pairs.iter().collect();
        let references =
            self.reference.sums(&all, self.job.micro_batch_tokens, || self.model().valid(), self.device);
        for (scored, reference) in scored.iter_mut().zip(references) {
            scored.scores = scored.scores.with_reference(reference);
        }
        let metrics = mean_metrics(objective, &scored).map_err(|PairError { pair, source }| {
            StepError::Loss { step: self.step, pair, origin: pairs[pair].origin.clone(), source }
        })?;
        let tokens = pairs.iter().map(EncodedPair::tokens).sum();
        let row = MetricsRow::new(Kind::Eval, self.step, self.epoch(), metrics, pairs.len(), tokens);
        Ok(Some((row.timed(started.elapsed().as_secs_f64()), scored)))
    }

    fn epoch(&self) -> f64 {
        let state = self.sampler.state();
        state.epoch as f64 + state.position as f64 / state.pairs as f64
    }
}

/// Factor of the gradients: PyTorch's `clip_grad_norm_`; `max_norm` 0 is off.
fn clip_scale(norm: f64, max_norm: f64) -> f64 {
    match max_norm > 0.0 {
        true => (max_norm / (norm + 1e-6)).min(1.0),
        false => 1.0,
    }
}
