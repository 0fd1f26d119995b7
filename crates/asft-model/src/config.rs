//! The shape of a Llama model: read from `config.json` or GGUF metadata, written as `config.json`.

use std::path::Path;

use asft_data::gguf::GgufFile;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{ModelError, WeightType};

/// Shape and constants of a Llama-architecture model.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// Whether the head shares the embedding's matrix.
    pub tie_word_embeddings: bool,
    /// Longest context the model was made for.
    pub max_position_embeddings: usize,
    /// Standard deviation of freshly initialised matrices.
    pub initializer_range: f64,
    /// Start-of-text id, if the source names one.
    pub bos_token_id: Option<u32>,
    /// End-of-text ids, possibly several.
    pub eos_token_ids: Vec<u32>,
}

/// Stretching of the rotary frequencies for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1's rule, by wavelength.
    Llama3 {
        /// Divisor of low frequencies.
        factor: f64,
        /// Wavelengths above context / this are divided.
        low_freq_factor: f64,
        /// Wavelengths below context / this are kept.
        high_freq_factor: f64,
        /// Context length before stretching.
        original_max_position_embeddings: usize,
    },
}

/// `config.json` as it is typed: both spellings of the RoPE settings, other architectures' keys ignored.
#[derive(Deserialize)]
struct Typed {
    #[serde(default)]
    architectures: Vec<String>,
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<TypedRope>,
    rope_parameters: Option<TypedRope>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "default_positions")]
    max_position_embeddings: usize,
    #[serde(default = "default_range")]
    initializer_range: f64,
    #[serde(default = "default_act")]
    hidden_act: String,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
}

#[derive(Deserialize)]
struct TypedRope {
    rope_type: Option<String>,
    /// The older spelling of `rope_type`; some versions of transformers wrote both.
    #[serde(rename = "type")]
    older_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

fn default_eps() -> f64 {
    1e-6
}
fn default_positions() -> usize {
    2048
}
fn default_range() -> f64 {
    0.02
}
fn default_act() -> String {
    "silu".into()
}

impl LlamaConfig {
    /// Reads `config.json`; `path` names it in errors.
    pub fn from_json(bytes: &[u8], path: &Path) -> Result<Self, ModelError> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let typed: Typed = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let key = match error.path().to_string().as_str() {
                "." => "(top level)".to_owned(),
                key => key.to_owned(),
            };
            config_error(path, &key, error.inner())
        })?;
        let architecture = typed.architectures.first().map_or("LlamaForCausalLM", String::as_str);
        if typed.model_type != "llama" || architecture != "LlamaForCausalLM" {
            let what = format!(
                "architecture {architecture} (model_type {}) is unknown; only LlamaForCausalLM (model_type llama) is supported",
                typed.model_type
            );
            return Err(config_error(path, "architectures", what));
        }
        for (key, given) in [("attention_bias", typed.attention_bias), ("mlp_bias", typed.mlp_bias)] {
            if given {
                return Err(config_error(path, key, "true is not supported: Llama 3 has no biases"));
            }
        }
        if typed.hidden_act != "silu" {
            return Err(config_error(
                path,
                "hidden_act",
                format!("{:?} is not supported, only \"silu\"", typed.hidden_act),
            ));
        }
        let nested_theta = typed.rope_parameters.as_ref().and_then(|rope| rope.rope_theta);
        let (key, rope) = match typed.rope_parameters {
            Some(rope) => ("rope_parameters", Some(rope)),
            None => ("rope_scaling", typed.rope_scaling),
        };
        let rope_scaling = rope
            .map_or(Ok(RopeScaling::None), |rope| rope.scaling(path, key, typed.max_position_embeddings))?;
        Self {
            vocab_size: typed.vocab_size,
            hidden_size: typed.hidden_size,
            intermediate_size: typed.intermediate_size,
            num_hidden_layers: typed.num_hidden_layers,
            num_attention_heads: typed.num_attention_heads,
            num_key_value_heads: typed.num_key_value_heads.unwrap_or(typed.num_attention_heads),
            head_dim: typed.head_dim.unwrap_or(typed.hidden_size / typed.num_attention_heads.max(1)),
            rms_norm_eps: typed.rms_norm_eps,
            rope_theta: nested_theta.or(typed.rope_theta).unwrap_or(10_000.0),
            rope_scaling,
            tie_word_embeddings: typed.tie_word_embeddings,
            max_position_embeddings: typed.max_position_embeddings,
            initializer_range: typed.initializer_range,
            bos_token_id: typed.bos_token_id,
            eos_token_ids: match typed.eos_token_id {
                None => vec![],
                Some(OneOrMany::One(id)) => vec![id],
                Some(OneOrMany::Many(ids)) => ids,
            },
        }
        .checked(path)
    }

    /// Reads the metadata of a GGUF file of architecture `llama`.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, ModelError> {
        let path = file.path();
        let architecture = file.required::<&str>("general.architecture")?;
        if architecture != "llama" {
            let what = format!("{architecture:?} is unknown; only \"llama\" is supported");
            return Err(config_error(path, "general.architecture", what));
        }
        let number = |key: &str| file.required::<u64>(key).map(|n| n as usize);
        let optional = |key: &str| file.optional::<u64>(key).map(|n| n.map(|n| n as usize));
        let hidden_size = number("llama.embedding_length")?;
        let num_attention_heads = number("llama.attention.head_count")?;
        let head_dim =
            optional("llama.attention.key_length")?.unwrap_or(hidden_size / num_attention_heads.max(1));
        for key in ["llama.rope.dimension_count", "llama.attention.value_length"] {
            if let Some(other) = optional(key)?.filter(|&found| found != head_dim) {
                let what =
                    format!("{other} is not supported: heads are {head_dim} wide, and turn as a whole");
                return Err(config_error(path, key, what));
            }
        }
        if let Some(bias) = file.tensors().iter().find(|tensor| tensor.name.ends_with(".bias")) {
            return Err(ModelError::Tensor {
                path: path.to_owned(),
                tensor: bias.name.clone(),
                what: "is not supported: Llama 3 has no biases".into(),
            });
        }
        let vocab_size = match file.tensor("token_embd.weight").and_then(|tensor| tensor.dims.last().copied())
        {
            Some(rows) => rows as usize,
            None => {
                return Err(ModelError::Tensor {
                    path: path.to_owned(),
                    tensor: "token_embd.weight".into(),
                    what: "missing".into(),
                });
            }
        };
        let id = |key: &str| optional(key).map(|id| id.map(|id| id as u32));
        Self {
            vocab_size,
            hidden_size,
            intermediate_size: number("llama.feed_forward_length")?,
            num_hidden_layers: number("llama.block_count")?,
            num_attention_heads,
            num_key_value_heads: optional("llama.attention.head_count_kv")?.unwrap_or(num_attention_heads),
            head_dim,
            rms_norm_eps: file.required("llama.attention.layer_norm_rms_epsilon")?,
            rope_theta: file.optional("llama.rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling: gguf_scaling(file, head_dim)?,
            tie_word_embeddings: file.tensor("output.weight").is_none(),
            max_position_embeddings: number("llama.context_length")?,
            initializer_range: default_range(),
            bos_token_id: id("tokenizer.ggml.bos_token_id")?,
            eos_token_ids: id("tokenizer.ggml.eos_token_id")?.into_iter().collect(),
        }
        .checked(path)
    }

    fn checked(self, path: &Path) -> Result<Self, ModelError> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 20),
            ("intermediate_size", self.intermediate_size, 1 << 20),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 12),
            ("num_attention_heads", self.num_attention_heads, 1 << 10),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 10),
            ("head_dim", self.head_dim, 1 << 10),
        ];
        // Far above every Llama, and low enough that no product of sizes overflows.
        for (key, size, limit) in sizes {
            if size == 0 || size > limit {
                return Err(config_error(path, key, format!("{size} is out of range, 1 to {limit}")));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let what = format!(
                "{} does not divide num_attention_heads {}",
                self.num_key_value_heads, self.num_attention_heads
            );
            return Err(config_error(path, "num_key_value_heads", what));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(config_error(
                path,
                "head_dim",
                format!("{} is odd; rotary embedding turns pairs", self.head_dim),
            ));
        }
        let positive = [("rms_norm_eps", self.rms_norm_eps), ("rope_theta", self.rope_theta)];
        for (key, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(config_error(path, key, format!("{value} must be positive")));
            }
        }
        Ok(self)
    }

    /// `config.json` of this model with weights of a type, in the spelling that transformers of every version since
    /// 4.43 reads.
    pub fn to_json(&self, weight_type: WeightType) -> Value {
        let scaling = match &self.rope_scaling {
            RopeScaling::None => Value::Null,
            RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_position_embeddings,
            }),
        };
        let eos = match self.eos_token_ids.as_slice() {
            [] => Value::Null,
            [id] => json!(id),
            ids => json!(ids),
        };
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": scaling,
            "tie_word_embeddings": self.tie_word_embeddings,
            "max_position_embeddings": self.max_position_embeddings,
            "initializer_range": self.initializer_range,
            "attention_bias": false,
            "mlp_bias": false,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos,
            "torch_dtype": weight_type.torch_name(),
        })
    }

    /// Parameters, the shared embedding counted once.
    pub fn parameters(&self) -> usize {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let block = 2 * hidden * q + 2 * hidden * kv + 3 * hidden * inner + 2 * hidden;
        let matrices = if self.tie_word_embeddings { 1 } else { 2 };
        self.num_hidden_layers * block + matrices * self.vocab_size * hidden + hidden
    }
}

impl TypedRope {
    fn scaling(&self, path: &Path, key: &str, positions: usize) -> Result<RopeScaling, ModelError> {
        let need = |name: &str, value: Option<f64>| match value {
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            Some(value) => {
                Err(config_error(path, &format!("{key}.{name}"), format!("{value} must be positive")))
            }
            None => Err(config_error(path, &format!("{key}.{name}"), "missing")),
        };
        match self.rope_type.as_deref().or(self.older_type.as_deref()) {
            None | Some("default") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: need("factor", self.factor)? }),
            Some("llama3") => {
                let low_freq_factor = need("low_freq_factor", self.low_freq_factor)?;
                let high_freq_factor = need("high_freq_factor", self.high_freq_factor)?;
                if high_freq_factor <= low_freq_factor {
                    let what = format!("{high_freq_factor} must be above low_freq_factor {low_freq_factor}");
                    return Err(config_error(path, &format!("{key}.high_freq_factor"), what));
                }
                let original_max_position_embeddings =
                    self.original_max_position_embeddings.unwrap_or(positions);
                need("original_max_position_embeddings", Some(original_max_position_embeddings as f64))?;
                Ok(RopeScaling::Llama3 {
                    factor: need("factor", self.factor)?,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings,
                })
            }
            Some(other) => {
                let what = format!("scaling {other:?} is unknown; default, linear and llama3 are supported");
                Err(config_error(path, &format!("{key}.rope_type"), what))
            }
        }
    }
}

/// GGUF stores Llama 3.1's scaling as one divisor per plane, `rope_freqs.weight`. Its parameters are found
/// again among those that Meta released; anything else is refused.
fn gguf_scaling(file: &GgufFile, head_dim: usize) -> Result<RopeScaling, ModelError> {
    let path = file.path();
    if file.tensor("rope_freqs.weight").is_some() {
        let given = crate::checkpoint::gguf_f32(file, "rope_freqs.weight")?;
        let theta = file.required::<f64>("llama.rope.freq_base")?;
        for factor in [8.0, 32.0] {
            let scaling = RopeScaling::Llama3 {
                factor,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 8192,
            };
            let frequencies = |scaling| crate::rope::frequencies(head_dim, theta, &scaling);
            let plain = frequencies(RopeScaling::None);
            let mut divisors = plain
                .iter()
                .zip(frequencies(scaling.clone()))
                .map(|(plain, scaled)| plain / scaled)
                .zip(&given);
            if given.len() == plain.len()
                && divisors.all(|(ours, &theirs)| (ours - f64::from(theirs)).abs() < 1e-3 * ours)
            {
                return Ok(scaling);
            }
        }
        return Err(config_error(
            path,
            "rope_freqs.weight",
            "these rotary divisors are not Llama 3.1's or 3.2's",
        ));
    }
    match file.optional("llama.rope.scaling.type")? {
        None | Some("none") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: file.required("llama.rope.scaling.factor")? }),
        Some(other) => Err(config_error(
            path,
            "llama.rope.scaling.type",
            format!("scaling {other:?} is unknown; none and linear are supported"),
        )),
    }
}

fn config_error(path: &Path, key: &str, what: impl ToString) -> ModelError {
    ModelError::Config { path: path.to_owned(), key: key.into(), what: what.to_string() }
}

#[cfg(test)]
mod tests;
