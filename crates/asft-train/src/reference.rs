//! The frozen reference model of DPO and its kin: its log-prob sums of each pair.
//!
//! Where adapters are trained, it is the model under them unless another is named.
//!
//! Precomputed, they are taken once over all pairs of the run before the model that is trained is loaded, and kept on disk for
//! other runs, each rank computing its share and rank 0 alone touching the disk; online, the reference model stays in memory and scores every micro-batch again. The model under
//! adapters is in memory anyway: it scores with them switched off.

use asft_core::ReferenceSums;
use asft_data::{
    EncodedPair, PairBatch,
    pack::{micro_batches, shards},
    sampler::{Sampler, steps_per_epoch},
};
use asft_model::{Llama, LlamaBackend, LlamaConfig};

use crate::{
    collective::Collective,
    config::ReferenceMode,
    engine,
    error::TrainError,
    job::{Job, ReferenceModel},
    reference_cache::ReferenceCache,
};

/// Where reference sums come from.
pub enum Reference<B: LlamaBackend> {
    /// The objective needs none.
    None,
    /// From disk or from a first pass.
    Precomputed(ReferenceCache),
    /// From the model itself.
    Online(Box<(Llama<B>, LlamaConfig)>),
    /// From the model that is trained, its adapters switched off.
    AdaptersOff(LlamaConfig),
}

impl<B: LlamaBackend> Reference<B> {
    /// Makes the sums of a job's pairs available: nothing to do where its objective needs none. `go_on` is told
    /// how many of the missing pairs are done; where it says no on any rank, the result is `None` and what was computed
    /// is kept.
    pub fn prepare(
        job: &mut Job,
        ranks: &dyn Collective,
        device: &B::Device,
        go_on: impl FnMut(usize, usize) -> bool,
    ) -> Result<Option<Self>, TrainError> {
        let Some(model) = job.reference.take() else { return Ok(Some(Self::None)) };
        let weight_type = job.weight_type::<B>(device)?;
        match job.config.reference.mode {
            ReferenceMode::Online if job.reference_is_base() => Ok(Some(Self::AdaptersOff(model.config))),
            ReferenceMode::Online => {
                let config = model.config.clone();
                Ok(Some(Self::Online(Box::new((model.load(weight_type, device)?, config)))))
            }
            ReferenceMode::Precomputed => {
                let directory = job.config.reference.cache.as_ref();
                let name = model.type_name(weight_type);
                let mut cache = match ranks.rank() {
                    0 => ReferenceCache::open(directory, &model.digest, &name)?,
                    _ => ReferenceCache::new(directory, &model.digest, &name),
                };
                let whole = complete::<B>(&mut cache, job, model, ranks, device, go_on)?;
                Ok(whole.then_some(Self::Precomputed(cache)))
            }
        }
    }

    /// The sums of each of `pairs`, scored in micro-batches of at most `micro_batch_tokens` where they have to be;
    /// empty where the objective needs none. `trained` is the model in training.
    ///
    /// # Panics
    /// If the pairs are not those of the job that this was prepared for.
    pub fn sums(
        &self,
        pairs: &[&EncodedPair],
        micro_batch_tokens: usize,
        trained: impl FnOnce() -> Llama<B>,
        device: &B::Device,
    ) -> Vec<ReferenceSums> {
        let compute = |model: &Llama<B>, config: &LlamaConfig| {
            let lengths: Vec<usize> = pairs.iter().map(|pair| pair.tokens()).collect();
            let batches = micro_batches(&lengths, micro_batch_tokens).into_iter();
            batches.flat_map(|range| sums(model, config, &pairs[range], device)).collect()
        };
        match self {
            Self::None => vec![],
            Self::Precomputed(cache) => {
                let sums =
                    pairs.iter().map(|pair| cache.get(pair).expect("every pair of the job was scored"));
                sums.collect()
            }
            Self::Online(model) => {
                let (model, config) = model.as_ref();
                compute(model, config)
            }
            Self::AdaptersOff(config) => compute(&trained().without_adapters(), config),
        }
    }
}

impl Job {
    /// Pairs that the reference model will score before the training; `None` where it does not work before it.
    /// Fails where the kept log-probs cannot be used.
    pub fn pairs_to_reference(&self) -> Result<Option<usize>, TrainError> {
        match (&self.reference, self.config.reference.mode) {
            (Some(model), ReferenceMode::Precomputed) => {
                let directory = self.config.reference.cache.as_ref();
                let name = model.type_name(self.config.model.dtype);
                let cache = ReferenceCache::open(directory, &model.digest, &name)?;
                Ok(Some(cache.missing(&pairs(self)).len()))
            }
            _ => Ok(None),
        }
    }
}

/// The training pairs that the run's steps will draw, and the held-out pairs.
fn pairs(job: &Job) -> Vec<&EncodedPair> {
    let train = &job.config.train;
    let count = job.train.pairs.len();
    let mut sampler = Sampler::new(count, train.seed, job.config.data.shuffle);
    let mut drawn = vec![false; count];
    // After one epoch nothing new comes.
    for _ in 0..job.total_steps.min(steps_per_epoch(count, train.pairs_per_step)) {
        sampler.next_step(train.pairs_per_step).into_iter().for_each(|index| drawn[index] = true);
    }
    let drawn = job.train.pairs.iter().zip(drawn).filter_map(|(pair, drawn)| drawn.then_some(pair));
    drawn.chain(job.eval.iter().flat_map(|eval| &eval.pairs)).collect()
}

/// Scores the pairs that the cache of rank 0 does not hold, and gives every rank the sums of all. False if it was stopped.
fn complete<B: LlamaBackend>(
    cache: &mut ReferenceCache,
    job: &Job,
    model: ReferenceModel,
    ranks: &dyn Collective,
    device: &B::Device,
    mut go_on: impl FnMut(usize, usize) -> bool,
) -> Result<bool, TrainError> {
    let all = pairs(job);
    let first = ranks.rank() == 0;
    let mut scorer = None;
    if ranks.first(!cache.missing(&all).is_empty())? {
        let config = model.config.clone();
        let loaded: Result<Llama<B>, TrainError> = model.load(job.config.model.dtype, device);
        scorer = Some((ranks.agree(loaded, |_| Default::default())?, config));
        if first {
            cache.lock()?;
        }
    }
    if ranks.size() > 1 {
        let known: Vec<Option<ReferenceSums>> =
            ranks.first(all.iter().map(|pair| cache.get(pair)).collect())?;
        cache.learn(all.iter().zip(known).filter_map(|(pair, sums)| Some((*pair, sums?))));
    }
    let Some((model, config)) = scorer else { return Ok(true) };
    let missing = cache.missing(&all);
    let lengths: Vec<usize> = missing.iter().map(|pair| pair.tokens()).collect();
    let own = shards(&lengths, ranks.size()).swap_remove(ranks.rank());
    let own_lengths: Vec<usize> = own.iter().map(|&pair| lengths[pair]).collect();
    let mut batches = micro_batches(&own_lengths, job.micro_batch_tokens).into_iter();
    let mut done = 0;
    while done < missing.len() {
        // A micro-batch of each rank, so that little is lost where the run is stopped; none where a rank has no more.
        let batch: Vec<usize> = batches.next().map_or(vec![], |range| own[range].to_vec());
        let scored = score::<B>(&model, &config, &missing, batch, device);
        for (pair, sums) in ranks.share(scored)?.into_iter().flatten() {
            done += 1;
            match first {
                true => cache.add([(missing[pair], sums)])?,
                false => cache.learn([(missing[pair], sums)]),
            }
        }
        if ranks.any(!go_on(done, missing.len()))? {
            cache.release()?;
            return Ok(false);
        }
    }
    cache.release()?;
    Ok(true)
}

/// The sums of some of `pairs`, by their index.
fn score<B: LlamaBackend>(
    model: &Llama<B>,
    config: &LlamaConfig,
    pairs: &[&EncodedPair],
    batch: Vec<usize>,
    device: &B::Device,
) -> Result<Vec<(usize, ReferenceSums)>, TrainError> {
    let of_batch: Vec<&EncodedPair> = batch.iter().map(|&pair| pairs[pair]).collect();
    let sums = match of_batch.is_empty() {
        true => vec![],
        false => sums(model, config, &of_batch, device),
    };
    let finite = |sums: &ReferenceSums| sums.chosen.is_finite() && sums.rejected.is_none_or(f64::is_finite);
    match sums.iter().position(|sums| !finite(sums)) {
        Some(bad) => Err(TrainError::ReferenceScore { origin: of_batch[bad].origin.clone() }),
        None => Ok(batch.into_iter().zip(sums).collect()),
    }
}

fn sums<B: LlamaBackend>(
    model: &Llama<B>,
    config: &LlamaConfig,
    pairs: &[&EncodedPair],
    device: &B::Device,
) -> Vec<ReferenceSums> {
    let batch = PairBatch::new(pairs.iter().copied());
    engine::score(model, config, &batch, false, device).into_iter().map(ReferenceSums::from).collect()
}
