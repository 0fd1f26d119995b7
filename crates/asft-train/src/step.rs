//! An optimizer step: all gradients first, or block by block, each applied before the next one is made.

use std::time::Instant;

use asft_core::{MetricsSum, PairError, PairLoss};
use asft_data::{EncodedPair, PairBatch, pack::micro_batches};
use asft_model::TrainBackend;
use burn::module::AutodiffModule;

use crate::{
    engine::{self, EMBEDDING, MicroBatch, Passage, segment_ranges},
    error::StepError,
    gradients::{Gradients, PartOnTheWay},
    metrics::{Kind, MetricsRow},
    optimizer::seed_of_chance,
    phases::Phases,
    trainer::Trainer,
};

/// How gradients become an update: the learning rate, and the factor that clips them.
#[derive(Clone, Copy, Debug)]
struct Update {
    rate: f64,
    scale: f64,
}

/// The way back through all blocks.
struct Pass<'a, 'r> {
    update: Option<Update>,
    /// The step's pairs.
    indices: &'a [usize],
    /// Sum over the gradients so far.
    squares: f64,
    /// Gradients of the part gone back through last, which the ranks are adding up.
    on_the_way: Option<Vec<PartOnTheWay<'r>>>,
}

impl<'r, A: TrainBackend> Trainer<'r, A> {
    /// Makes one optimizer step. After an error the weights are those before it, but under `optimizer.in_backward`: there
    /// part of them may be updated, and they are worth nothing.
    ///
    /// Each rank takes its share of the step's pairs; what divides the loss is known to all before, so that their
    /// gradients add up to those of a single process.
    pub fn make_step(&mut self) -> Result<MetricsRow, StepError> {
        let (started, communicated) = (Instant::now(), self.ranks.seconds());
        let step = self.step + 1;
        let indices = self.sampler.next_step(self.job.config.train.pairs_per_step);
        let rate = self.job.schedule.rate(self.step);
        let mut phases = std::mem::take(&mut self.phases);
        let stepped = match self.job.config.optimizer.in_backward {
            false => self.step_at_once(&indices, rate, &mut phases),
            true => self.step_by_block(&indices, rate, &mut phases),
        };
        self.phases = phases;
        let (metrics, grad_norm) = stepped?;
        self.step = step;
        self.last_pairs.clone_from(&indices);

        let metrics = metrics.mean().expect("a step has pairs");
        let tokens = indices.iter().map(|&index| self.job.train.pairs[index].tokens()).sum();
        let mut row = MetricsRow::new(Kind::Train, step, self.epoch(), metrics, indices.len(), tokens);
        row.grad_norm = Some(grad_norm);
        row.learning_rate = Some(rate);
        Ok(self.timed(row, started, communicated))
    }

    /// Sums all gradients over all micro-batches, clips them by their norm and applies them.
    fn step_at_once(
        &mut self,
        indices: &[usize],
        rate: f64,
        phases: &mut Phases,
    ) -> Result<(MetricsSum, f64), StepError> {
        let mut gradients = Gradients::default();
        let config = &self.job.model_config;
        let own = self.micro_batches(indices, phases, |micro_batch, phases| {
            engine::accumulate(self.model(), config, micro_batch, &mut gradients, phases, self.device)
        });
        let metrics = self.shared(own)?;
        let trained: Vec<&(String, usize)> = self.trained.iter().collect();
        let squares = self.reduce(&mut gradients, &trained, phases)?;
        let norm = self.finite(squares, indices)?;
        let scale = clip_scale(norm, self.job.config.optimizer.max_grad_norm);
        self.optimizer.begin_step();
        self.update(gradients, Update { rate, scale }, phases);
        Ok((metrics, norm))
    }

    /// Goes back through one segment of blocks after the other, with all micro-batches, and applies its gradients before it
    /// goes on to the one before. They are clipped by the norm of the step before, since their own is known only
    /// after the last of them; the first step goes back twice, the first time for its norm.
    fn step_by_block(
        &mut self,
        indices: &[usize],
        rate: f64,
        phases: &mut Phases,
    ) -> Result<(MetricsSum, f64), StepError> {
        let mut gradients = Gradients::default();
        let mut passages = vec![];
        let config = &self.job.model_config;
        let own = self.micro_batches(indices, phases, |micro_batch, phases| {
            let (passage, losses) =
                Passage::begin(self.model(), config, micro_batch, &mut gradients, phases, self.device)?;
            passages.push(passage);
            Ok(losses)
        });
        let metrics = self.shared(own)?;
        let max_norm = self.job.config.optimizer.max_grad_norm;
        let scale = match (max_norm > 0.0, self.last_norm) {
            (false, _) => 1.0,
            (true, Some(norm)) => clip_scale(norm, max_norm),
            (true, None) => {
                clip_scale(self.walk(passages.clone(), gradients.clone(), None, indices, phases)?, max_norm)
            }
        };
        self.optimizer.begin_step();
        let norm = self.walk(passages, gradients, Some(Update { rate, scale }), indices, phases)?;
        self.last_norm = Some(norm);
        Ok((metrics, norm))
    }

    /// Goes back from the last segment to the embedding and gives the norm of all gradients. Those of a segment exist
    /// from when it is gone back through until they are applied, or without `update` looked at; with several ranks, until
    /// the one before has been gone back through.
    fn walk(
        &mut self,
        mut passages: Vec<Passage<A>>,
        mut gradients: Gradients<A::InnerBackend>,
        update: Option<Update>,
        indices: &[usize],
        phases: &mut Phases,
    ) -> Result<f64, StepError> {
        let mut segments = segment_ranges(self.model().model.layers.len(), self.job.segments);
        let last = segments.pop().expect("a model has at least one block");
        let mut pass = Pass { update, indices, squares: 0.0, on_the_way: None };
        // Above the blocks are the norm and, where it is not the embedding, the head.
        let above = |path: &str| match layer(path) {
            Some(layer) => last.contains(&layer),
            None => path != EMBEDDING,
        };
        self.hand_over(gradients.split_off(above), above, &mut pass, phases)?;
        for segment in segments.into_iter().rev() {
            phases.time::<A, _>("backward", self.device, || {
                for passage in &mut passages {
                    let passed = passage.back(self.model(), &mut gradients);
                    assert_eq!(passed.as_ref(), Some(&segment), "micro-batches go back together");
                }
            });
            let within = |path: &str| layer(path).is_some_and(|layer| segment.contains(&layer));
            self.hand_over(gradients.split_off(within), within, &mut pass, phases)?;
        }
        phases.time::<A, _>("backward", self.device, || {
            for passage in passages {
                passage.end(self.model(), &mut gradients, self.device);
            }
        });
        self.hand_over(gradients, |path| path == EMBEDDING, &mut pass, phases)?;
        let last = pass.on_the_way.take();
        self.receive(last, &mut pass, phases)?;
        Ok(self.common(pass.squares)?.sqrt())
    }

    /// Takes the gradients of one part; `belongs` names all that it trains. Several ranks begin to add them up, and apply
    /// those of the part before, so that sums are made while the next part is gone back through.
    fn hand_over(
        &mut self,
        gradients: Gradients<A::InnerBackend>,
        belongs: impl Fn(&str) -> bool,
        pass: &mut Pass<'_, 'r>,
        phases: &mut Phases,
    ) -> Result<(), StepError> {
        if self.ranks.size() == 1 {
            return self.settle(gradients, pass, phases);
        }
        let part: Vec<&(String, usize)> = self.trained.iter().filter(|(path, _)| belongs(path)).collect();
        let sent =
            phases.time::<A, _>("communication", self.device, || gradients.send_all(&part, self.ranks));
        let before = pass.on_the_way.replace(sent);
        self.receive(before, pass, phases)
    }

    /// Waits for the sums of a part.
    fn receive(
        &mut self,
        sent: Option<Vec<PartOnTheWay<'r>>>,
        pass: &mut Pass<'_, 'r>,
        phases: &mut Phases,
    ) -> Result<(), StepError> {
        let Some(sent) = sent else { return Ok(()) };
        let gradients = phases
            .time::<A, _>("communication", self.device, || Gradients::receive_all(sent, self.device))?;
        self.settle(gradients, pass, phases)
    }

    /// Adds the squares of a part's gradients, and applies them where there is an update.
    fn settle(
        &mut self,
        gradients: Gradients<A::InnerBackend>,
        pass: &mut Pass<'_, 'r>,
        phases: &mut Phases,
    ) -> Result<(), StepError> {
        pass.squares += phases.time::<A, _>("optimizer", self.device, || gradients.sum_of_squares());
        self.finite(pass.squares, pass.indices)?;
        if let Some(update) = pass.update {
            self.update(gradients, update, phases);
        }
        Ok(())
    }

    /// Adds up the gradients of `parameters` over all ranks and gives the sum of their squares.
    fn reduce(
        &self,
        gradients: &mut Gradients<A::InnerBackend>,
        parameters: &[&(String, usize)],
        phases: &mut Phases,
    ) -> Result<f64, StepError> {
        if self.ranks.size() > 1 {
            phases.time::<A, _>("communication", self.device, || {
                gradients.all_reduce(parameters, self.ranks, self.device)
            })?;
        }
        self.common(phases.time::<A, _>("optimizer", self.device, || gradients.sum_of_squares()))
    }

    /// Rank 0's sum: devices may add up in another order each, and one sum for all keeps their weights the same.
    fn common(&self, squares: f64) -> Result<f64, StepError> {
        Ok(f64::from_bits(self.ranks.first(squares.to_bits())?))
    }

    fn update(&mut self, gradients: Gradients<A::InnerBackend>, update: Update, phases: &mut Phases) {
        let Update { rate, scale } = update;
        let model = self.model.take().expect("a step always puts the model back");
        let updated = phases
            .time::<A, _>("optimizer", self.device, || self.optimizer.apply(model, gradients, rate, scale));
        self.model = Some(updated);
    }

    /// The norm, unless it is not finite.
    fn finite(&self, squares: f64, indices: &[usize]) -> Result<f64, StepError> {
        let norm = squares.sqrt();
        match norm.is_finite() {
            true => Ok(norm),
            false => Err(StepError::Gradient { step: self.step + 1, norm, pairs: indices.to_vec() }),
        }
    }

    /// The metrics of all ranks' pairs.
    fn shared(&self, own: Result<MetricsSum, StepError>) -> Result<MetricsSum, StepError> {
        let mut metrics = MetricsSum::default();
        self.ranks.share(own)?.iter().for_each(|part| metrics.merge(part));
        Ok(metrics)
    }

    /// Gives `pass` the micro-batches of this rank's share of a step's pairs, and returns the sums of their metrics.
    fn micro_batches(
        &self,
        indices: &[usize],
        phases: &mut Phases,
        mut pass: impl FnMut(MicroBatch<'_>, &mut Phases) -> Result<Vec<PairLoss>, PairError>,
    ) -> Result<MetricsSum, StepError> {
        let step = self.step + 1;
        let train = &self.job.config.train;
        let objective = &self.job.config.objective;
        let all: Vec<&EncodedPair> = indices.iter().map(|&index| &self.job.train.pairs[index]).collect();
        let norm = self.norm(&all);
        let (own, pairs) = self.share_of(&all);
        let lengths: Vec<usize> = pairs.iter().map(|pair| pair.tokens()).collect();
        let mut metrics = MetricsSum::default();
        let drops = self.job.config.lora.as_ref().is_some_and(|lora| lora.dropout > 0.0);
        for range in micro_batches(&lengths, self.job.micro_batch_tokens) {
            let pairs_of_batch = &pairs[range.clone()];
            let batch = PairBatch::new(pairs_of_batch.iter().copied());
            let references = phases.time::<A, _>("reference", self.device, || {
                let trained = || self.model().valid();
                self.reference.sums(pairs_of_batch, self.job.micro_batch_tokens, trained, self.device)
            });
            let first = own[range.start];
            let micro_batch = MicroBatch {
                batch: &batch,
                objective,
                norm: &norm,
                references: &references,
                segments: self.job.segments,
                dropout: drops
                    .then(|| seed_of_chance(train.seed, step, &format!("dropout of the pairs from {first}"))),
            };
            let losses = pass(micro_batch, phases).map_err(|PairError { pair, source }| {
                let pair = own[range.start + pair];
                StepError::Loss { step, pair: indices[pair], origin: all[pair].origin.clone(), source }
            })?;
            losses.iter().for_each(|loss| metrics.add(&loss.metrics));
        }
        Ok(metrics)
    }
}

/// The block that a parameter belongs to.
fn layer(path: &str) -> Option<usize> {
    path.strip_prefix("model.layers.")?.split_once('.')?.0.parse().ok()
}

/// Factor of the gradients: PyTorch's `clip_grad_norm_`; `max_norm` 0 is off.
fn clip_scale(norm: f64, max_norm: f64) -> f64 {
    match max_norm > 0.0 {
        true => (max_norm / (norm + 1e-6)).min(1.0),
        false => 1.0,
    }
}
