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
    Llama, LlamaBackend, LlamaConfig, WeightType,
    checkpoint::{Checkpoint, RandomWeights},
};
use sha2::{Digest, Sha256};

use crate::{
    checkpoint::{digest_of_files, hex, verify_if_of_a_run},
    config::{Count, DataSettings, ReferenceMode, RunConfig},
    error::TrainError,
    memory::{MemoryPlan, StepLoad, budget_bytes},
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
    /// Most tokens of a micro-batch that holds more than one pair.
    pub micro_batch_tokens: usize,
    /// Digest of all pairs' token ids.
    pub data_digest: String,
    /// Expected memory by part.
    pub memory: MemoryPlan,
    /// Gone once they are read, since a mapped file counts as the process's memory.
    weights: Option<Weights>,
    /// The reference model, where the objective needs one.
    pub(crate) reference: Option<ReferenceModel>,
    reference_digest: Option<String>,
}

/// A model that scores pairs and is not trained.
pub(crate) struct ReferenceModel {
    /// Its shape.
    pub config: LlamaConfig,
    /// Of its files, or of what makes its random weights.
    pub digest: String,
    weights: Weights,
}

impl ReferenceModel {
    fn open(config: &RunConfig, tokenizer: &Tokenizer) -> Result<Self, TrainError> {
        let path = match config.reference.path.as_str() {
            "" => &config.model.path,
            path => path,
        };
        let (weights, model_config, own_tokenizer) = open_model(path, config.train.seed)?;
        check_same_tokenizer(path.as_ref(), &own_tokenizer, tokenizer)?;
        let digest = match &weights {
            Weights::Checkpoint(checkpoint) => digest_of_files(&checkpoint.files())?,
            Weights::Random { seed } => hex(&Sha256::digest(format!("{path} {seed}"))),
        };
        Ok(Self { config: model_config, digest, weights })
    }

    /// Reads the weights onto a device.
    pub fn load<B: LlamaBackend>(
        self,
        weight_type: WeightType,
        device: &B::Device,
    ) -> Result<Llama<B>, TrainError> {
        self.weights.load(weight_type, &self.config, device)
    }
}

enum Weights {
    Checkpoint(Box<Checkpoint>),
    Random { seed: u64 },
}

impl Weights {
    fn load<B: LlamaBackend>(
        self,
        weight_type: WeightType,
        config: &LlamaConfig,
        device: &B::Device,
    ) -> Result<Llama<B>, TrainError> {
        Ok(match self {
            Self::Checkpoint(mut checkpoint) => {
                Llama::load_as(weight_type, config, checkpoint.weights(), device)?
            }
            Self::Random { seed } => {
                let mut weights = RandomWeights::new(seed, config.initializer_range);
                Llama::load_as(weight_type, config, &mut weights, device)?
            }
        })
    }
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
        let reference = match config.objective.needs_reference() {
            true => Some(ReferenceModel::open(&config, &tokenizer)?),
            false => {
                if !config.reference.path.is_empty() {
                    let objective = config.objective.name();
                    tracing::warn!(
                        "reference.path is not read: objective {objective} needs no reference model"
                    );
                }
                None
            }
        };
        let per_epoch = steps_per_epoch(train.pairs.len(), config.train.pairs_per_step);
        let total_steps = match config.train.max_steps {
            0 => config.train.epochs * per_epoch,
            steps => steps,
        };
        let budget = budget_bytes(config.train.memory_budget);
        let train_lengths: Vec<usize> = train.pairs.iter().map(EncodedPair::tokens).collect();
        let load = StepLoad::new(&train_lengths, config.train.pairs_per_step);
        let fixed = (config.train.segments.exactly(), config.train.micro_batch_tokens.exactly());
        let beside = match &reference {
            Some(reference) if config.reference.mode == ReferenceMode::Online => {
                (config.model.dtype.bytes() * reference.config.parameters()) as u64
            }
            _ => 0,
        };
        let plan = MemoryPlan::fit(&model_config, config.model.dtype, load, fixed, beside, budget);
        if let Some(budget) = budget.filter(|&budget| plan.peak() > budget) {
            tracing::warn!(
                "the run is expected to take {:.2} GB, more than the {:.2} GB of train.memory_budget; \
                 lower data.max_length{}",
                plan.peak() as f64 / 1e9,
                budget as f64 / 1e9,
                if fixed == (None, None) {
                    ""
                } else {
                    ", or leave train.segments and train.micro_batch_tokens to \"auto\""
                }
            );
        }
        let MemoryPlan { segments, micro_batch_tokens, .. } = plan;
        config.train.segments = Count::Exactly(segments);
        config.train.micro_batch_tokens = Count::Exactly(micro_batch_tokens);
        Ok(Self {
            schedule: Schedule::new(&config.schedule, config.optimizer.learning_rate, total_steps),
            memory: plan,
            data_digest: digest(train.pairs.iter().chain(eval.iter().flat_map(|eval| &eval.pairs))),
            config,
            model_config,
            tokenizer,
            train,
            eval,
            total_steps,
            segments,
            micro_batch_tokens,
            weights: Some(weights),
            reference_digest: reference.as_ref().map(|reference| reference.digest.clone()),
            reference,
        })
    }

    /// Type of the weights, which the backend must be able to train in.
    pub fn weight_type<B: LlamaBackend>(&self, device: &B::Device) -> Result<WeightType, TrainError> {
        let weight_type = self.config.model.dtype;
        match B::trains_in(weight_type, device) {
            true => Ok(weight_type),
            false => Err(TrainError::WeightType(weight_type)),
        }
    }

    /// Reads the weights onto a device, once.
    pub fn load_model<B: LlamaBackend>(&mut self, device: &B::Device) -> Result<Llama<B>, TrainError> {
        let weight_type = self.weight_type::<B>(device)?;
        self.weights.take().expect("weights are read once").load(weight_type, &self.model_config, device)
    }

    /// Digest of the reference model, where the objective needs one.
    pub fn reference_digest(&self) -> Option<&str> {
        self.reference_digest.as_deref()
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

/// Fails where the reference model at `path` takes other tokens than the model that is trained.
pub fn check_same_tokenizer(
    path: &Path,
    reference: &Tokenizer,
    trained: &Tokenizer,
) -> Result<(), TrainError> {
    let ids = 0..reference.vocab_size().max(trained.vocab_size()) as u32;
    match ids.into_iter().all(|id| reference.token(id) == trained.token(id)) {
        true => Ok(()),
        false => Err(TrainError::ReferenceTokenizer { path: path.to_owned() }),
    }
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
    let (train, eval) = train.split_held_out(held_out, data.eval_seed.unwrap_or(config.train.seed))?;
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
        min_response_tokens: data.min_response_tokens,
        template: data.template.resolve(tokenizer, options)?,
    })
}

/// Digest of the token ids of pairs.
pub(crate) fn digest<'a>(pairs: impl IntoIterator<Item = &'a EncodedPair>) -> String {
    let mut hasher = Sha256::new();
    for pair in pairs {
        for ids in [&pair.prompt, &pair.chosen, &pair.rejected] {
            hasher.update((ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| hasher.update(id.to_le_bytes()));
        }
    }
    hex(&hasher.finalize())
}
