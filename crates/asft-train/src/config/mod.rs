//! The run's configuration as it is typed: strict TOML with defaults, checked before anything starts.

mod parse;

use asft_core::Objective;
use asft_data::{schema::Format, template::TemplateChoice, truncation::Truncation};
use asft_model::{LoraConfig, WeightType};
use serde::{Deserialize, Serialize};

pub use parse::{ConfigError, assign, parse_table, read_table};

/// One training run. Written back in full as the run directory's `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Which model.
    pub model: ModelSettings,
    /// Adapters, which are trained in place of the model's weights; absent: the weights are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// Which pairs, and how they become tokens.
    pub data: DataSettings,
    /// Exactly one `[objective.NAME]` table.
    #[serde(default = "default_objective")]
    pub objective: Objective,
    /// The frozen model of the objectives that need one.
    #[serde(default)]
    pub reference: ReferenceSettings,
    /// AdamW.
    #[serde(default)]
    pub optimizer: OptimizerSettings,
    /// The learning rate over the run.
    #[serde(default)]
    pub schedule: ScheduleSettings,
    /// Steps, evaluation, checkpoints.
    pub train: TrainSettings,
}

fn default_objective() -> Objective {
    Objective::Asft(Default::default())
}

/// `[model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// A Hugging Face directory, a GGUF file, a directory of an adapter, a run directory or `embedded:quickstart`.
    pub path: String,
    /// Type of the weights.
    #[serde(default)]
    pub dtype: WeightType,
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// Files or globs of training pairs, or `embedded:quickstart`; one of them may stand without brackets.
    #[serde(deserialize_with = "one_or_many")]
    pub train: Vec<String>,
    /// Files or globs of held-out pairs.
    #[serde(default, deserialize_with = "one_or_many")]
    pub eval: Vec<String>,
    /// Share of the training pairs to hold out where `eval` is empty.
    #[serde(default)]
    pub eval_fraction: f64,
    /// Number of training pairs to hold out where `eval` is empty; wins over `eval_fraction`.
    #[serde(default)]
    pub eval_pairs: usize,
    /// Seed of the choice of held-out pairs; absent: `train.seed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_seed: Option<u64>,
    /// Schema of the files.
    #[serde(default)]
    pub format: Format,
    /// Most tokens of prompt and one answer together.
    #[serde(default = "default_max_length")]
    pub max_length: usize,
    /// What happens to longer pairs.
    #[serde(default)]
    pub truncation: Truncation,
    /// Fewest scored tokens of each answer; pairs with a shorter one are dropped, held-out ones too.
    #[serde(default)]
    pub min_response_tokens: usize,
    /// Whether each epoch has an order of its own.
    #[serde(default = "default_true")]
    pub shuffle: bool,
    /// The chat template.
    #[serde(default)]
    pub template: TemplateChoice,
    /// The day that templates print, `YYYY-MM-DD`; empty: today for templates that ask for it.
    #[serde(default)]
    pub template_date: String,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let name = |value: toml::Value| match value {
        toml::Value::String(name) => Ok(name),
        other => Err(serde::de::Error::custom(format!("expected file names or globs, got {other}"))),
    };
    match toml::Value::deserialize(deserializer)? {
        toml::Value::Array(names) => names.into_iter().map(name).collect(),
        one => Ok(vec![name(one)?]),
    }
}

fn default_max_length() -> usize {
    2048
}
fn default_true() -> bool {
    true
}

/// `[reference]`: not looked at under an objective that needs no reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReferenceSettings {
    /// When the reference model runs.
    pub mode: ReferenceMode,
    /// The model, as in `model.path`, with the same tokenizer; empty: the model that is trained, as it was, and under
    /// `[lora]` without an adapter.
    pub path: String,
    /// Directory in which precomputed log-probs are kept for this and other runs.
    pub cache: String,
}

impl Default for ReferenceSettings {
    fn default() -> Self {
        Self { mode: ReferenceMode::default(), path: String::new(), cache: "cache/reference".to_owned() }
    }
}

/// When the reference model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReferenceMode {
    /// Once over all pairs, before the training: it takes no memory beside the model that is trained.
    #[default]
    Precomputed,
    /// In every step, beside the model that is trained.
    Online,
}

/// `[optimizer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerSettings {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay rates of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled decay of the matrices; norms have none.
    pub weight_decay: f64,
    /// Type in which the two moments are kept.
    pub state_dtype: WeightType,
    /// Global gradient norm above which gradients are scaled down; 0 turns clipping off.
    pub max_grad_norm: f64,
    /// Applies the gradients of a segment of blocks in the backward pass, before the next is gone back through, so that all of them
    /// never exist at a time. The norm by which they are clipped is then that of the step before.
    pub in_backward: bool,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            learning_rate: 1e-5,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            state_dtype: WeightType::F32,
            max_grad_norm: 1.0,
            in_backward: false,
        }
    }
}

/// `[schedule]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleSettings {
    /// Shape after the warm-up.
    pub kind: ScheduleKind,
    /// Share of the steps over which the rate rises linearly from 0.
    pub warmup_ratio: f64,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self { kind: ScheduleKind::Cosine, warmup_ratio: 0.1 }
    }
}

/// Shape of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Half a cosine down to 0.
    Cosine,
    /// A line down to 0.
    Linear,
    /// The peak rate.
    Constant,
}

/// `[train]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// The run directory.
    pub output: String,
    /// Passes over the training pairs.
    #[serde(default = "default_epochs")]
    pub epochs: usize,
    /// Steps after which the run ends; 0: as many as the epochs give.
    #[serde(default)]
    pub max_steps: usize,
    /// Pairs of one optimizer step.
    #[serde(default = "default_pairs_per_step")]
    pub pairs_per_step: usize,
    /// Most tokens of one forward and backward pass, prompts counted once; `"auto"` fits the memory budget.
    #[serde(default)]
    pub micro_batch_tokens: Count,
    /// Segments of blocks, all but the last of which run again in the backward pass and are one block each: 1 keeps
    /// everything, as many as layers keep least; `"auto"` fits the memory budget.
    #[serde(default)]
    pub segments: Count,
    /// What `"auto"` fits into.
    #[serde(default)]
    pub memory_budget: MemoryBudget,
    /// Steps between evaluations; 0: only before and after.
    #[serde(default = "default_every")]
    pub eval_every_steps: usize,
    /// Held-out pairs of the evaluations on the way; 0: all, as before the first and after the last step.
    #[serde(default)]
    pub eval_pairs: usize,
    /// Steps between checkpoints; 0: only after the last step.
    #[serde(default = "default_every")]
    pub save_every_steps: usize,
    /// Newest checkpoints to keep.
    #[serde(default = "default_keep")]
    pub keep_checkpoints: usize,
    /// Seed of the order of pairs, of fresh weights and, without `data.eval_seed`, of the held-out choice.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Seconds after which a rank of several that is silent is given up.
    #[serde(default = "default_collective_timeout")]
    pub collective_timeout: u64,
}

fn default_epochs() -> usize {
    2
}
fn default_pairs_per_step() -> usize {
    4
}
fn default_every() -> usize {
    50
}
fn default_keep() -> usize {
    2
}
fn default_seed() -> u64 {
    42
}
/// Seconds; more than rank 0 takes to write a checkpoint of 8 billion parameters.
pub const fn default_collective_timeout() -> u64 {
    600
}

/// `"auto"` or a number from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Count {
    /// Chosen when the run starts.
    #[default]
    Auto,
    /// So many.
    Exactly(usize),
}

impl Count {
    /// The number, if it is fixed.
    pub fn exactly(self) -> Option<usize> {
        match self {
            Self::Auto => None,
            Self::Exactly(count) => Some(count),
        }
    }
}

impl Serialize for Count {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Exactly(count) => serializer.serialize_u64(*count as u64),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(word) if word == "auto" => Ok(Self::Auto),
            toml::Value::Integer(count) if count > 0 => Ok(Self::Exactly(count as usize)),
            other => {
                Err(serde::de::Error::custom(format!("expected \"auto\" or a number from 1, got {other}")))
            }
        }
    }
}

/// `"auto"` or a size such as `"3 GB"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryBudget {
    /// Three quarters of the memory that is free when the run starts, shared with its other processes on the machine.
    #[default]
    Auto,
    /// So many bytes.
    Bytes(u64),
}

const UNITS: [(&str, u64); 6] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
];

impl Serialize for MemoryBudget {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Bytes(bytes) => {
                let whole = UNITS.into_iter().find(|(_, size)| bytes.is_multiple_of(*size));
                serializer.serialize_str(&match whole {
                    Some((unit, size)) => format!("{} {unit}", bytes / size),
                    None => format!("{bytes} B"),
                })
            }
        }
    }
}

impl<'de> Deserialize<'de> for MemoryBudget {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let units = UNITS.into_iter().chain([("B", 1)]);
        let parsed = units.into_iter().find_map(|(unit, size)| {
            let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            (number.is_finite() && number > 0.0).then_some(Self::Bytes((number * size as f64) as u64))
        });
        parsed.ok_or_else(|| {
            serde::de::Error::custom(format!("expected \"auto\" or a size such as \"3 GB\", got {text:?}"))
        })
    }
}
