//! The state of training, and one of its two motions: an evaluation. The other, an optimizer step, is in [`crate::step`].

use std::time::Instant;

use asft_core::{MetricsSum, PairError, StepNorm};
use asft_data::{EncodedPair, Sampler, pack::shards};
use asft_model::{Llama, TrainBackend, lora::peft_name, parameters};
use burn::module::AutodiffModule;

use crate::{
    checkpoint::{RunState, load_moments},
    collective::{Collective, Facts},
    error::{StepError, TrainError},
    evaluate::{ScoredPair, score_pairs, sum_metrics},
    job::Job,
    metrics::{Kind, MetricsRow},
    optimizer::AdamW,
    phases::Phases,
    reference::Reference,
    resume::ResumePoint,
};

/// A model in training. It writes nothing: [`crate::run`] keeps what it gives.
pub struct Trainer<'a, A: TrainBackend> {
    pub(crate) job: Job,
    pub(crate) ranks: &'a dyn Collective,
    pub(crate) device: &'a A::Device,
    /// Absent only inside [`Self::make_step`].
    pub(crate) model: Option<Llama<A>>,
    pub(crate) reference: Reference<A::InnerBackend>,
    pub(crate) optimizer: AdamW<A::InnerBackend>,
    pub(crate) sampler: Sampler,
    pub(crate) step: usize,
    pub(crate) last_pairs: Vec<usize>,
    /// Gradient norm of the last step, where the next one is clipped by it.
    pub(crate) last_norm: Option<f64>,
    /// Paths and lengths of all that is trained.
    pub(crate) trained: Vec<(String, usize)>,
    pub(crate) phases: Phases,
}

impl<'a, A: TrainBackend> Trainer<'a, A> {
    /// Loads the model, the optimizer and the order of pairs, as new or as a checkpoint left them, and sees that all
    /// ranks have the same weights.
    pub fn new(
        job: Job,
        reference: Reference<A::InnerBackend>,
        resume: Option<&ResumePoint>,
        ranks: &'a dyn Collective,
        device: &'a A::Device,
    ) -> Result<Self, TrainError> {
        let own = Self::load(job, reference, resume, ranks, device);
        ranks.agree(own, |own| Facts::from([("the model".to_owned(), own.checksum())]))
    }

    fn load(
        mut job: Job,
        reference: Reference<A::InnerBackend>,
        resume: Option<&ResumePoint>,
        ranks: &'a dyn Collective,
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
        let mut trained = vec![];
        parameters::for_each(&model.valid(), |path, _, shape| {
            if is_trained(&job, path) {
                trained.push((path.to_owned(), shape.iter().product()));
            }
        });
        Ok(Self {
            job,
            ranks,
            device,
            model: Some(model),
            reference,
            optimizer,
            sampler,
            step,
            last_pairs: vec![],
            last_norm: resume.and_then(|resume| resume.state.grad_norm),
            trained,
            phases: Phases::default(),
        })
    }

    /// What is trained.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The processes that train with this one.
    pub fn ranks(&self) -> &'a dyn Collective {
        self.ranks
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
            grad_norm: self.last_norm,
        }
    }

    /// What divides the loss over `pairs`.
    pub(crate) fn norm(&self, pairs: &[&EncodedPair]) -> StepNorm {
        let objective = &self.job.config.objective;
        let nll_tokens =
            pairs.iter().map(|pair| objective.nll_tokens(pair.chosen.len(), Some(pair.prompt.len() - 1)));
        StepNorm { pairs: pairs.len(), nll_tokens: nll_tokens.sum() }
    }

    /// Which of `pairs` are this rank's, and they themselves.
    pub(crate) fn share_of<'b>(&self, pairs: &[&'b EncodedPair]) -> (Vec<usize>, Vec<&'b EncodedPair>) {
        let lengths: Vec<usize> = pairs.iter().map(|pair| pair.tokens()).collect();
        let own = shards(&lengths, self.ranks.size()).swap_remove(self.ranks.rank());
        let own_pairs = own.iter().map(|&pair| pairs[pair]).collect();
        (own, own_pairs)
    }

    pub(crate) fn timed(&self, row: MetricsRow, started: Instant, communicated: f64) -> MetricsRow {
        let communication = self.ranks.seconds() - communicated;
        row.timed(started.elapsed().as_secs_f64()).shared(self.ranks.size(), communication)
    }

    /// Fails if a weight that is trained is not finite, so that no such model is ever kept.
    pub fn check_weights(&self) -> Result<(), StepError> {
        let mut found = None;
        parameters::for_each(&self.model().valid(), |path, values, _| {
            if is_trained(&self.job, path)
                && found.is_none()
                && !values.into_data().iter::<f32>().all(f32::is_finite)
            {
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

    /// Evaluates the first `count` held-out pairs, each rank its share. `go_on` is told about how many are done; where
    /// it says no on any rank, the result is `None`.
    pub fn evaluate(
        &self,
        count: usize,
        mut go_on: impl FnMut(usize) -> bool,
    ) -> Result<Option<(MetricsRow, Vec<ScoredPair>)>, StepError> {
        let Some(eval) = &self.job.eval else { return Ok(None) };
        let (started, communicated) = (Instant::now(), self.ranks.seconds());
        let pairs: Vec<&EncodedPair> = eval.pairs[..count.min(eval.pairs.len())].iter().collect();
        let (own, own_pairs) = self.share_of(&pairs);
        // The other ranks are about as far.
        let scored = self.score(&pairs, &own, &own_pairs, |done| go_on(done * pairs.len() / own.len()));
        let Some(all) = self.ranks.share(scored)?.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let mut sum = MetricsSum::default();
        let mut scored = Vec::with_capacity(pairs.len());
        for (metrics, part) in all {
            sum.merge(&metrics);
            scored.extend(part);
        }
        scored.sort_by_key(|(pair, _)| *pair);
        let scored = scored.into_iter().map(|(_, scored)| scored).collect();
        let metrics = sum.mean().expect("a set of pairs is never empty");
        let tokens = pairs.iter().map(|pair| pair.tokens()).sum();
        let row = MetricsRow::new(Kind::Eval, self.step, self.epoch(), metrics, pairs.len(), tokens);
        Ok(Some((self.timed(row, started, communicated), scored)))
    }

    /// Sums of metrics and scores by index in `pairs` of those that are this rank's, unless `go_on` said no.
    #[expect(clippy::type_complexity, reason = "two results")]
    fn score(
        &self,
        pairs: &[&EncodedPair],
        own: &[usize],
        own_pairs: &[&EncodedPair],
        go_on: impl FnMut(usize) -> bool,
    ) -> Result<Option<(MetricsSum, Vec<(usize, ScoredPair)>)>, StepError> {
        let objective = &self.job.config.objective;
        let model = self.model().valid();
        let scored = score_pairs(
            &model,
            &self.job.model_config,
            own_pairs,
            objective.needs_prompt_scores(),
            self.job.micro_batch_tokens,
            self.device,
            go_on,
        );
        let Some(mut scored) = scored else { return Ok(None) };
        let references = self.reference.sums(own_pairs, self.job.micro_batch_tokens, || model, self.device);
        for (scored, reference) in scored.iter_mut().zip(references) {
            scored.scores = scored.scores.with_reference(reference);
        }
        let metrics =
            sum_metrics(objective, &scored, &self.norm(pairs)).map_err(|PairError { pair, source }| {
                StepError::Loss {
                    step: self.step,
                    pair: own[pair],
                    origin: own_pairs[pair].origin.clone(),
                    source,
                }
            })?;
        Ok(Some((metrics, own.iter().copied().zip(scored).collect())))
    }

    /// Checksum of all weights.
    fn checksum(&self) -> String {
        let mut checksum = 0;
        parameters::for_each(&self.model().valid(), |path, values, _| {
            checksum = crc32c::crc32c_append(checksum, path.as_bytes());
            checksum = crc32c::crc32c_append(checksum, &values.into_data().bytes);
        });
        format!("{checksum:08x}")
    }

    pub(crate) fn epoch(&self) -> f64 {
        let state = self.sampler.state();
        state.epoch as f64 + state.position as f64 / state.pairs as f64
    }
}

fn is_trained(job: &Job, path: &str) -> bool {
    job.config.lora.is_none() || peft_name(path).is_some()
}
