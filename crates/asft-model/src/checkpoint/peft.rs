//! Adapters in the format of Hugging Face's PEFT: `adapter_config.json` beside `adapter_model.safetensors`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    SafetensorsFile, WeightSource,
    write::{pretty, write_file, write_safetensors},
};
use crate::{
    Llama, LlamaBackend, ModelError,
    lora::{LoraConfig, PEFT_PREFIX, PEFT_SUFFIXES, Projection, adapter_tensors},
};

/// The file that makes a directory an adapter's.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// The version of PEFT whose keys and defaults are written.
const PEFT_VERSION: &str = "0.21.2";

/// An adapter on disk, its weights not yet read.
pub struct PeftAdapter {
    path: PathBuf,
    base: String,
    lora: LoraConfig,
    weights: SafetensorsFile,
    used: BTreeSet<String>,
}

/// What is read of `adapter_config.json`.
#[derive(Deserialize)]
struct Config {
    base_model_name_or_path: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
}

/// Keys of what changes an adapter's meaning in ways that are not supported here, unless they are off.
const UNSUPPORTED: [&str; 15] = [
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "use_rslora",
];

impl PeftAdapter {
    /// Reads the config and maps the weights, whose names must be factors of a block's projections.
    pub fn open(directory: &Path) -> Result<Self, ModelError> {
        let path = directory.join(ADAPTER_CONFIG);
        let bytes = std::fs::read(&path).map_err(ModelError::io(&path))?;
        let damaged =
            |error: serde_json::Error| ModelError::Damaged { path: path.clone(), what: error.to_string() };
        let keys: Map<String, Value> = serde_json::from_slice(&bytes).map_err(damaged)?;
        let config: Config = serde_json::from_value(Value::Object(keys.clone())).map_err(damaged)?;
        let refuse = |key: &str, what: String| {
            Err(ModelError::Config { path: path.clone(), key: key.to_owned(), what })
        };
        if keys.get("peft_type") != Some(&json!("LORA")) {
            let found = keys.get("peft_type").unwrap_or(&Value::Null);
            return refuse("peft_type", format!("is {found}; only \"LORA\" is supported"));
        }
        if let Some(bias) = keys.get("bias").filter(|bias| **bias != json!("none")) {
            return refuse("bias", format!("is {bias}; only \"none\" is supported"));
        }
        for key in UNSUPPORTED {
            if let Some(value) = keys.get(key).filter(|value| !is_off(value)) {
                return refuse(
                    key,
                    format!("is {value}, which is not supported\nhint: merge the adapter with peft"),
                );
            }
        }
        // Other ways of starting change the base model's weights.
        if let Some(Value::String(start)) = keys.get("init_lora_weights")
            && !["gaussian", "orthogonal", "eva"].contains(&start.as_str())
        {
            let what =
                format!("is {start:?}: the adapter needs other base weights\nhint: merge it with peft");
            return refuse("init_lora_weights", what);
        }
        if config.r == 0 {
            return refuse("r", "must be at least 1".to_owned());
        }
        if !(config.lora_alpha.is_finite() && (0.0..1.0).contains(&config.lora_dropout)) {
            return refuse("lora_alpha", "and lora_dropout must be numbers, the second below 1".to_owned());
        }
        let Some(base) = config.base_model_name_or_path else {
            return refuse("base_model_name_or_path", "is missing".to_owned());
        };
        let weights = SafetensorsFile::open(&directory.join(WEIGHTS))?;
        let lora = LoraConfig {
            rank: config.r,
            alpha: config.lora_alpha,
            dropout: config.lora_dropout,
            target_modules: projections(&weights)?,
            quantization: None,
        };
        Ok(Self { path: directory.to_owned(), base, lora, weights, used: BTreeSet::new() })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model that was adapted, as the config names it.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// What is adapted and how.
    pub fn lora(&self) -> &LoraConfig {
        &self.lora
    }

    /// Config and weights.
    pub fn files(&self) -> Vec<PathBuf> {
        vec![self.path.join(ADAPTER_CONFIG), self.weights.path().to_owned()]
    }
}

impl WeightSource for PeftAdapter {
    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.used.insert(name.to_owned());
        self.weights.values(name, shape)
    }

    fn unused(&self) -> Vec<String> {
        let names = self.weights.names().unwrap_or_default();
        names.into_iter().filter(|name| !self.used.contains(name)).collect()
    }
}

/// Whether a setting is as good as absent.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Array(list) => list.is_empty(),
        Value::Object(keys) => keys.is_empty(),
        _ => false,
    }
}

/// The projections that a file has factors of; a config may name them by a pattern.
fn projections(weights: &SafetensorsFile) -> Result<BTreeSet<Projection>, ModelError> {
    let projection = |name: &str| {
        let path = name.strip_prefix(PEFT_PREFIX)?.strip_prefix("model.layers.")?;
        let module = PEFT_SUFFIXES.iter().find_map(|suffix| path.strip_suffix(suffix))?;
        let (_, module) = module.split_once('.')?;
        Projection::ALL.into_iter().find(|projection| projection.path() == module)
    };
    let found = weights.names()?.into_iter().map(|name| {
        projection(&name).ok_or_else(|| ModelError::Tensor {
            path: weights.path().to_owned(),
            what: "is no factor of a projection of a block, and nothing else can be adapted here".to_owned(),
            tensor: name,
        })
    });
    found.collect()
}

/// Writes a model's adapters, with PEFT's config, and `files` (tokenizer, template) into an existing directory.
/// `base` is where the model without them is found.
pub fn write_adapter<B: LlamaBackend>(
    directory: &Path,
    lora: &LoraConfig,
    base: &str,
    model: &Llama<B>,
    files: &[(String, Vec<u8>)],
) -> Result<(), ModelError> {
    write_safetensors(&directory.join(WEIGHTS), &adapter_tensors(model))?;
    write_file(&directory.join(ADAPTER_CONFIG), &pretty(&peft_config(lora, base)))?;
    files.iter().try_for_each(|(name, bytes)| write_file(&directory.join(name), bytes))
}

/// Every key that PEFT writes, with its value for an adapter that uses nothing of what it stands for.
fn peft_config(lora: &LoraConfig, base: &str) -> Value {
    // PEFT's users know alpha as a whole number.
    let alpha = match lora.alpha.fract() == 0.0 && lora.alpha.abs() < 1e15 {
        true => json!(lora.alpha as i64),
        false => json!(lora.alpha),
    };
    json!({
        "alora_invocation_tokens": null,
        "alpha_pattern": {},
        "arrow_config": null,
        "auto_mapping": null,
        "base_model_name_or_path": base,
        "bias": "none",
        "corda_config": null,
        "ensure_weight_tying": false,
        "eva_config": null,
        "exclude_modules": null,
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "kasa_config": null,
        "layer_replication": null,
        "layers_pattern": null,
        "layers_to_transform": null,
        "loftq_config": {},
        "lora_alpha": alpha,
        "lora_bias": false,
        "lora_dropout": lora.dropout,
        "lora_ga_config": null,
        "megatron_config": null,
        "megatron_core": "megatron.core",
        "modules_to_save": null,
        "monteclora_config": null,
        "peft_type": "LORA",
        "peft_version": PEFT_VERSION,
        "qalora_group_size": 16,
        "r": lora.rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": lora.target_modules,
        "target_parameters": null,
        "task_type": "CAUSAL_LM",
        "trainable_token_indices": null,
        "use_bdlora": null,
        "use_dora": false,
        "use_qalora": false,
        "use_rslora": false,
        "velora_config": null
    })
}
