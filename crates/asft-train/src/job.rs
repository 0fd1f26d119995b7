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
    Llama, LlamaBackend, LlamaConfig, LoraConfig, Quantization, WeightType,
    checkpoint::{PeftAdapter, RandomWeights, SavedModel},
    lora::FreshAdapter,
};
use sha2::{Digest, Sha256};

use crate::{
    checkpoint::{check_base, digest_of_files, hex, verify_if_of_a_run},
    collective::{Collective, CollectiveError},
    config::{Count, DataSettings, ReferenceMode, RunConfig},
    error::TrainError,
    memory::{MemoryPlan, StepLoad, TrainedModel, budget_bytes},
    quickstart,
    schedule::Schedule,
    shapes,
};

/// The inputs of a training run.
pub struct Job {
    /// The configuration, `auto` values resolved.
    pub config: RunConfig,
    /// The configuration before they were.
    given: RunConfig,
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
    /// Numbers that are trained.
    pub trained_parameters: u64,
    /// The model under the adapters, where it is adapters that are trained.
    pub base: Option<BaseModel>,
    /// Gone once they are read, since a mapped file counts as the process's memory.
    weights: Option<Weights>,
    /// The reference model, where the objective needs one.
    pub(crate) reference: Option<ReferenceModel>,
    reference_digest: Option<String>,
}

/// A model that stays as it is under adapters.
#[derive(Clone, Debug)]
pub struct BaseModel {
    /// Where an adapter's config says that it is.
    pub name: String,
    /// Of its files.
    pub digest: String,
}

/// A model that scores pairs and is not trained.
pub(crate) struct ReferenceModel {
    /// Its shape.
    pub config: LlamaConfig,
    /// Of its files, or of what makes its random weights.
    pub digest: String,
    /// How its projections are kept: as in the model that is trained, if it is the one under the adapters.
    quantization: Option<Quantization>,
    weights: Weights,
}

impl ReferenceModel {
    /// `trained` is the path of what is trained, without an adapter where it is one that is trained.
    fn open(config: &RunConfig, trained: &str, tokenizer: &Tokenizer) -> Result<Self, TrainError> {
        let path = match config.reference.path.as_str() {
            "" => trained,
            path => path,
        };
        let (weights, model_config, own_tokenizer) = open_model(path, config.train.seed)?;
        check_same_tokenizer(path.as_ref(), &own_tokenizer, tokenizer)?;
        let digest = match &weights {
            Weights::Saved(saved) => digest_of_files(&saved.files())?,
            Weights::Random { seed } => digest_of_random(path, *seed),
        };
        let quantization = match reference_is_base(config) {
            true => config.lora.as_ref().and_then(|lora| lora.quantization),
            false => None,
        };
        Ok(Self { config: model_config, digest, quantization, weights })
    }

    /// The type that it computes in, as the cache of its log-probs knows it.
    pub fn type_name(&self, dtype: WeightType) -> String {
        match self.quantization {
            None => dtype.name().to_owned(),
            Some(quantization) => format!("{}-{}", dtype.name(), quantization.name()),
        }
    }

    /// Reads the weights onto a device.
    pub fn load<B: LlamaBackend>(
        self,
        weight_type: WeightType,
        device: &B::Device,
    ) -> Result<Llama<B>, TrainError> {
        self.weights.load(weight_type, self.quantization, &self.config, device)
    }
}

enum Weights {
    Saved(Box<SavedModel>),
    Random { seed: u64 },
}

impl Weights {
    /// The model without adapters: those that there are become part of its weights.
    fn load<B: LlamaBackend>(
        self,
        weight_type: WeightType,
        quantization: Option<Quantization>,
        config: &LlamaConfig,
        device: &B::Device,
    ) -> Result<Llama<B>, TrainError> {
        Ok(match self {
            Self::Saved(mut saved) if quantization.is_some() => {
                saved.load_base(weight_type, quantization, device)?
            }
            Self::Saved(mut saved) => saved.load(weight_type, None, device)?.merged(),
            Self::Random { seed } => {
                let mut weights = RandomWeights::new(seed, config.initializer_range);
                Llama::load_as(weight_type, quantization, config, &mut weights, device)?
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
        let base =
            config.lora.as_ref().map(|lora| base_model(&config.model.path, &weights, lora)).transpose()?;
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
            true => {
                let trained = base.as_ref().map_or(&config.model.path, |base| &base.name);
                Some(ReferenceModel::open(&config, trained, &tokenizer)?)
            }
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
        let lengths: Vec<usize> = train.pairs.iter().map(EncodedPair::tokens).collect();
        let plan = plan(&config, &model_config, reference.as_ref(), &lengths);
        let trained_parameters = match config.lora {
            None => model_config.parameters() as u64,
            Some(_) => trained_model(&config, &model_config).adapter_parameters(),
        };
        let given = config.clone();
        let MemoryPlan { segments, micro_batch_tokens, .. } = plan;
        config.train.segments = Count::Exactly(segments);
        config.train.micro_batch_tokens = Count::Exactly(micro_batch_tokens);
        Ok(Self {
            schedule: Schedule::new(&config.schedule, config.optimizer.learning_rate, total_steps),
            memory: plan,
            data_digest: digest(train.pairs.iter().chain(eval.iter().flat_map(|eval| &eval.pairs))),
            config,
            given,
            model_config,
            tokenizer,
            train,
            eval,
            total_steps,
            segments,
            micro_batch_tokens,
            trained_parameters,
            base,
            weights: Some(weights),
            reference_digest: reference.as_ref().map(|reference| reference.digest.clone()),
            reference,
        })
    }

    /// Plans the memory again as if every pair had `tokens` tokens, prompt and both answers together.
    pub fn plan_pairs_of(&mut self, tokens: usize) {
        let lengths = vec![tokens; self.config.train.pairs_per_step];
        self.memory = plan(&self.given, &self.model_config, self.reference.as_ref(), &lengths);
        (self.segments, self.micro_batch_tokens) = (self.memory.segments, self.memory.micro_batch_tokens);
    }

    /// Warns where the plan does not fit the memory, and says what would lower it.
    pub fn warn_beyond_budget(&self) {
        let peak = self.memory.peak();
        if let Some(budget) = budget_bytes(self.given.train.memory_budget).filter(|&budget| peak > budget) {
            let ways = self.what_lowers_memory().join(", ");
            tracing::warn!(
                "the run is expected to take {}, more than the {} of train.memory_budget\nhint: less memory is taken with {ways}",
                size(peak),
                size(budget),
            );
        }
    }

    /// Settings that would lower the expected peak.
    fn what_lowers_memory(&self) -> Vec<&'static str> {
        let RunConfig { model, optimizer, train, lora, .. } = &self.given;
        let MemoryPlan { activations, head, .. } = self.memory;
        let whole = lora.is_none();
        let ways = [
            ("train.segments = \"auto\"", train.segments != Count::Auto),
            ("train.micro_batch_tokens = \"auto\"", train.micro_batch_tokens != Count::Auto),
            ("model.dtype = \"bf16\"", model.dtype == WeightType::F32),
            ("optimizer.state_dtype = \"bf16\"", whole && optimizer.state_dtype == WeightType::F32),
            ("optimizer.in_backward = true", whole && !optimizer.in_backward),
            ("a table [lora]", whole),
            ("lora.quantization = \"nf4\"", lora.as_ref().is_some_and(|lora| lora.quantization.is_none())),
            // A smaller length takes nothing from weights and what goes with them.
            ("a smaller data.max_length", activations + head > self.memory.peak() / 10),
            ("a smaller model", true),
        ];
        ways.into_iter().filter_map(|(way, lowers)| lowers.then_some(way)).collect()
    }

    /// Takes the settings of the rank that has least memory, so that what is computed does not depend on who computes it.
    pub(crate) fn plan_alike(&mut self, ranks: &dyn Collective) -> Result<(), CollectiveError> {
        for (segments, tokens) in ranks.share(Ok((self.segments, self.micro_batch_tokens)))? {
            self.segments = self.segments.max(segments);
            self.micro_batch_tokens = self.micro_batch_tokens.min(tokens);
        }
        self.config.train.segments = Count::Exactly(self.segments);
        self.config.train.micro_batch_tokens = Count::Exactly(self.micro_batch_tokens);
        Ok(())
    }

    /// Type of the weights, which the backend must be able to train in.
    pub fn weight_type<B: LlamaBackend>(&self, device: &B::Device) -> Result<WeightType, TrainError> {
        let weight_type = self.config.model.dtype;
        match B::trains_in(weight_type, device) {
            true => Ok(weight_type),
            false => Err(TrainError::WeightType(weight_type)),
        }
    }

    /// Reads the weights onto a device, once. Where adapters are trained, they are those of `adapter`, of the model's
    /// path if that has one, or fresh ones.
    pub fn load_model<B: LlamaBackend>(
        &mut self,
        adapter: Option<&mut PeftAdapter>,
        device: &B::Device,
    ) -> Result<Llama<B>, TrainError> {
        let weight_type = self.weight_type::<B>(device)?;
        let weights = self.weights.take().expect("weights are read once");
        let Some(lora) = &self.config.lora else {
            return weights.load(weight_type, None, &self.model_config, device);
        };
        let (model, mut saved) = match weights {
            Weights::Saved(mut saved) => {
                (saved.load_base(weight_type, lora.quantization, device)?, Some(saved))
            }
            random => (random.load(weight_type, lora.quantization, &self.model_config, device)?, None),
        };
        let own = saved.as_mut().and_then(|saved| saved.adapter_mut());
        Ok(match adapter.or(own) {
            Some(adapter) => model.with_adapters(lora, adapter)?,
            None => model.with_adapters(lora, &mut FreshAdapter::new(self.config.train.seed))?,
        })
    }

    /// Whether the reference model is the one that is trained with its adapters switched off.
    pub(crate) fn reference_is_base(&self) -> bool {
        reference_is_base(&self.config)
    }

    /// Digest of the reference model, where the objective needs one.
    pub fn reference_digest(&self) -> Option<&str> {
        self.reference_digest.as_deref()
    }
}

/// Bytes for people to read.
fn size(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= 1e8 => format!("{:.2} GB", bytes / 1e9),
        bytes => format!("{:.3} MB", bytes / 1e6),
    }
}

fn reference_is_base(config: &RunConfig) -> bool {
    config.lora.is_some() && config.reference.path.is_empty()
}

/// The fastest settings that fit the memory, or those that are given, for pairs of these lengths.
fn plan(
    config: &RunConfig,
    shape: &LlamaConfig,
    reference: Option<&ReferenceModel>,
    lengths: &[usize],
) -> MemoryPlan {
    let budget = budget_bytes(config.train.memory_budget);
    let load = StepLoad::new(lengths, config.train.pairs_per_step);
    let fixed = (config.train.segments.exactly(), config.train.micro_batch_tokens.exactly());
    let beside = match reference {
        Some(reference) if needs_reference_weights(config) => {
            (config.model.dtype.bytes() * reference.config.parameters()) as u64
        }
        _ => 0,
    };
    MemoryPlan::fit(&trained_model(config, shape), load, fixed, beside, budget)
}

fn trained_model<'a>(config: &'a RunConfig, shape: &'a LlamaConfig) -> TrainedModel<'a> {
    TrainedModel {
        config: shape,
        dtype: config.model.dtype,
        state_dtype: config.optimizer.state_dtype,
        lora: config.lora.as_ref(),
        in_backward: config.optimizer.in_backward,
    }
}

/// Whether weights of a reference model stand beside those that are trained.
fn needs_reference_weights(config: &RunConfig) -> bool {
    config.reference.mode == ReferenceMode::Online && !reference_is_base(config)
}

/// Opens a model on disk with a tokenizer that fits it; weights of a run's checkpoint are held against its
/// manifest, and the model under its adapter against the one that was trained on.
pub fn open_checkpoint(path: &Path) -> Result<(SavedModel, Tokenizer), TrainError> {
    let saved = SavedModel::open(path)?;
    verify_if_of_a_run(saved.path())?;
    if saved.adapter().is_some() {
        verify_if_of_a_run(saved.base().path())?;
        check_base(saved.path(), saved.base())?;
    }
    let tokenizer = Tokenizer::from_model(saved.tokenizer_path()).map_err(DataError::from)?;
    saved.base().check_vocabulary(tokenizer.vocab_size())?;
    Ok((saved, tokenizer))
}

/// What adapters are to be trained on, and that an adapter which is there already can go on as `lora` has it.
fn base_model(path: &str, weights: &Weights, lora: &LoraConfig) -> Result<BaseModel, TrainError> {
    let refused = |what: String| TrainError::Adapter { path: path.into(), what };
    let saved = match weights {
        Weights::Saved(saved) => saved,
        // To measure what adapters take; the adapter has no other use.
        Weights::Random { seed } if shapes::named(path).is_some() => {
            return Ok(BaseModel { name: path.to_owned(), digest: digest_of_random(path, *seed) });
        }
        Weights::Random { .. } => {
            let what = "this model has no file, so nothing could use an adapter of it\nhint: leave [lora] out, or name a model on disk in model.path";
            return Err(refused(what.to_owned()));
        }
    };
    let base = saved.base();
    let name = match saved.adapter() {
        Some(adapter) => {
            let own = adapter.lora();
            if own != (&LoraConfig { dropout: own.dropout, quantization: None, ..lora.clone() }) {
                let modules: Vec<_> = own.target_modules.iter().map(|module| module.name()).collect();
                return Err(refused(format!(
                    "its adapter has rank {}, alpha {} and target modules {}, which [lora] must say to go on with it\n\
                     hint: asft export merges it into a model that takes another adapter",
                    own.rank,
                    own.alpha,
                    modules.join(", ")
                )));
            }
            adapter.base().to_owned()
        }
        // A run directory stands for its newest checkpoint, which will not stay the newest.
        None if Path::new(path).join("config.json").is_file() => path.to_owned(),
        None => base.path().display().to_string(),
    };
    Ok(BaseModel { name, digest: digest_of_files(&base.files())? })
}

/// Stands for the digest of files that random weights do not have.
fn digest_of_random(path: &str, seed: u64) -> String {
    hex(&Sha256::digest(format!("{path} {seed}")))
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
    if let Some(shape) = shapes::named(path) {
        return Ok((Weights::Random { seed }, shape?, quickstart::tokenizer()?));
    }
    let (saved, tokenizer) = open_checkpoint(Path::new(path))?;
    let config = saved.config().clone();
    Ok((Weights::Saved(Box::new(saved)), config, tokenizer))
}

/// The shape of the model that a path names, as `model.path` does.
pub fn shape_of(path: &str) -> Result<LlamaConfig, TrainError> {
    Ok(open_model(path, 0)?.1)
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
