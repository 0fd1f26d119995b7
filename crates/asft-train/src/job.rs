//! Everything that a run reads and checks before it touches a device or its output directory.

use std::path::Path;

use asft_data::{
    DataError, Dataset, EncodedPair, Tokenizer,
    dataset::{HeldOut, LoadOptions},
    read::Source,
    sampler::steps_per_epoch,
    template::{RenderOptions, parse_date, today},
};
use asft_model::{
    Llama, LlamaBackend, LlamaConfig,
    checkpoint::{Checkpoint, RandomWeights},
};
use sha2::{Digest, Sha256};

use crate::{
    checkpoint::{hex, verify_if_of_a_run},
    config::{DataSettings, RunConfig, Segments, TrainSettings},
    error::TrainError,
    memory::{MemoryPlan, budget_bytes},
    quickstart,
    schedule::Schedule,
};

/// The inputs of a training run.
pub struct Job {
    /// The configuration, `auto` values resolved.
    pub config: RunConfig,
    /// Shape of the model.
    pub model_config: LlamaConfig,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Training pairs.
    pub train: Dataset,
    /// Held-out pairs.
    pub eval: Option<Dataset>,
    /// Optimizer steps of the whole run.
    pub total_steps: usize,
    /// Learning rates.
    pub schedule: Schedule,
    /// Groups of blocks; all but the last are recomputed in the backward pass.
    pub segments: usize,
    /// Digest of all pairs' token ids.
    pub data_digest: String,
    /// Expected memory by part.
    pub memory: MemoryPlan,
    weights: Weights,
}

enum Weights {
    Checkpoint(Box<Checkpoint>),
    Random { seed: u64 },
}

impl Job {
    /// Reads and checks everything a configuration names, but the weights themselves.
    pub fn read(config: RunConfig) -> Result<Self, TrainError> {
        Self::read_first(config, None)
    }

    /// [`Self::read`] with no more than the first `pairs` of the training pairs.
    pub fn read_first(mut config: RunConfig, pairs: Option<usize>) -> Result<Self, TrainError> {
        let (weights, model_config, tokenizer) = open_model(&config.model.path, config.train.seed)?;
        warn_beyond_positions(config.data.max_length, &model_config);
        if config.data.template_date.is_empty() {
            // Templates that print the day must print the same one when the run is resumed.
            config.data.template_date = today();
        }
        let (mut train, eval) = load_data(&config, &tokenizer)?;
        train.pairs.truncate(pairs.unwrap_or(usize::MAX));
        for data in [Some(&train), eval.as_ref()].into_iter().flatten() {
            if let (true, Some(origin)) = (config.objective.needs_rejected(), data.first_without_rejected()) {
                let objective = config.objective.name();
                return Err(TrainError::MissingRejected { origin: origin.clone(), objective });
            }
        }
        let per_epoch = steps_per_epoch(train.pairs.len(), config.train.pairs_per_step);
        let total_steps = match config.train.max_steps {
            0 => config.train.epochs * per_epoch,
            steps => steps,
        };
        let tokens = longest_micro_batch(&train.pairs, &config.train);
        let budget = budget_bytes(config.train.memory_budget);
        let segments = match config.train.segments {
            Segments::Count(count) => count.min(model_config.num_hidden_layers),
            Segments::Auto => match budget {
                Some(budget) => MemoryPlan::segments(&model_config, tokens, budget),
                None => model_config.num_hidden_layers,
            },
        };
        let memory = MemoryPlan::new(&model_config, tokens, segments);
        if let Some(budget) = budget.filter(|&budget| memory.peak() > budget) {
            tracing::warn!(
                "the run is expected to take {:.2} GB, more than the {:.2} GB of train.memory_budget; \
                 lower train.micro_batch_tokens or data.max_length",
                memory.peak() as f64 / 1e9,
                budget as f64 / 1e9
            );
        }
        config.train.segments = Segments::Count(segments);
        Ok(Self {
            schedule: Schedule::new(&config.schedule, config.optimizer.learning_rate, total_steps),
            memory,
            data_digest: digest(train.pairs.iter().chain(eval.iter().flat_map(|eval| &eval.pairs))),
            config,
            model_config,
            tokenizer,
            train,
            eval,
            total_steps,
            segments,
            weights,
        })
    }

    /// Reads the weights onto a device.
    pub fn load_model<B: LlamaBackend>(&mut self, device: &B::Device) -> Result<Llama<B>, TrainError> {
        let config = &self.model_config;
        Ok(match &mut self.weights {
            Weights::Checkpoint(checkpoint) => Llama::load(config, checkpoint.weights(), device)?,
            Weights::Random { seed } => {
                Llama::load(config, &mut RandomWeights::new(*seed, config.initializer_range), device)?
            }
        })
    }
}

/// Opens a model on disk with a tokenizer that fits it; weights of a run's checkpoint are held against its
/// manifest.
pub fn open_checkpoint(path: &Path) -> Result<(Checkpoint, Tokenizer), TrainError> {
    let checkpoint = Checkpoint::open(path)?;
    verify_if_of_a_run(checkpoint.path())?;
    let tokenizer = Tokenizer::from_model(checkpoint.path()).map_err(DataError::from)?;
    checkpoint.check_vocabulary(tokenizer.vocab_size())?;
    Ok((checkpoint, tokenizer))
}

/// The model of a path as a configuration names it.
fn open_model(path: &str, seed: u64) -> Result<(Weights, LlamaConfig, Tokenizer), TrainError> {
    if path == quickstart::NAME {
        return Ok((Weights::Random { seed }, quickstart::model_config()?, quickstart::tokenizer()?));
    }
    let (checkpoint, tokenizer) = open_checkpoint(Path::new(path))?;
    let config = checkpoint.config().clone();
    Ok((Weights::Checkpoint(Box::new(checkpoint)), config, tokenizer))
}

/// Warns where pairs may be longer than the model was made for.
pub fn warn_beyond_positions(max_length: usize, config: &LlamaConfig) {
    let positions = config.max_position_embeddings;
    if max_length > positions {
        tracing::warn!(
            "pairs may have up to {max_length} tokens, beyond the {positions} positions that the model was made for"
        );
    }
}

/// Most tokens that any micro-batch can hold: those of a step's worth of the longest pairs, if they fit.
fn longest_micro_batch(pairs: &[EncodedPair], train: &TrainSettings) -> usize {
    let mut lengths: Vec<usize> = pairs.iter().map(EncodedPair::tokens).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let step: usize = lengths.iter().take(train.pairs_per_step).sum();
    let longest = lengths.first().copied().unwrap_or(0);
    step.min(train.micro_batch_tokens).max(longest)
}

fn load_data(config: &RunConfig, tokenizer: &Tokenizer) -> Result<(Dataset, Option<Dataset>), TrainError> {
    let data = &config.data;
    let load = |patterns: &[String], part: quickstart::Part| -> Result<Dataset, TrainError> {
        let sources = match patterns {
            [name] if name == quickstart::NAME => vec![quickstart::source(part)],
            patterns => Source::expand(patterns)?,
        };
        Ok(Dataset::load(&load_options(&config.data, sources, tokenizer)?, tokenizer)?)
    };
    let train = load(&data.train, quickstart::Part::Train)?;
    let held_out = match (data.eval_pairs, data.eval_fraction) {
        _ if !data.eval.is_empty() => return Ok((train, Some(load(&data.eval, quickstart::Part::HeldOut)?))),
        (0, 0.0) => return Ok((train, None)),
        (0, fraction) => HeldOut::Fraction(fraction),
        (count, _) => HeldOut::Count(count),
    };
    let (train, eval) = train.split_held_out(held_out, config.train.seed)?;
    Ok((train, Some(eval)))
}

/// How a configuration's data is read from `sources` for one tokenizer.
pub fn load_options(
    data: &DataSettings,
    sources: Vec<Source>,
    tokenizer: &Tokenizer,
) -> Result<LoadOptions, DataError> {
    let date = match data.template_date.as_str() {
        "" => None,
        text => Some(parse_date(text)?),
    };
    let options = RenderOptions { date, ..Default::default() };
    Ok(LoadOptions {
        sources,
        format: data.format,
        max_length: data.max_length,
        truncation: data.truncation,
        template: data.template.resolve(tokenizer, options)?,
    })
}

fn digest<'a>(pairs: impl Iterator<Item = &'a EncodedPair>) -> String {
    let mut hasher = Sha256::new();
    for pair in pairs {
        for ids in [&pair.prompt, &pair.chosen, &pair.rejected] {
            hasher.update((ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| hasher.update(id.to_le_bytes()));
        }
    }
    hex(&hasher.finalize())
}
