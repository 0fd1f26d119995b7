//! What is adapted and how strongly.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Quantization;

/// Settings of low-rank adapters (arXiv 2106.09685), under PEFT's defaults and names but for `rank` and `alpha`,
/// which it calls `r` and `lora_alpha`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Typed")]
pub struct LoraConfig {
    /// Rows of `A` and columns of `B`.
    pub rank: usize,
    /// The adapter's output is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Share of the adapter's inputs that are zero in training, the others being scaled up by `1 / (1 - dropout)`.
    pub dropout: f64,
    /// Projections of every block that get an adapter.
    pub target_modules: BTreeSet<Projection>,
    /// How the frozen projections are kept; absent: as the model's other weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Typed::default().into()
    }
}

impl LoraConfig {
    /// Factor of the adapter's output.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }
}

/// The settings as they are typed: `alpha` follows `rank` where it is absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Typed {
    rank: usize,
    alpha: Option<f64>,
    dropout: f64,
    #[serde(deserialize_with = "one_or_many")]
    target_modules: BTreeSet<Projection>,
    quantization: Option<Quantization>,
}

impl Default for Typed {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: None,
            dropout: 0.0,
            target_modules: Projection::ALL.into(),
            quantization: None,
        }
    }
}

impl From<Typed> for LoraConfig {
    fn from(Typed { rank, alpha, dropout, target_modules, quantization }: Typed) -> Self {
        Self { rank, alpha: alpha.unwrap_or(2.0 * rank as f64), dropout, target_modules, quantization }
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Projection>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        One(String),
        Many(Vec<String>),
    }
    let names = match Names::deserialize(deserializer)? {
        Names::One(name) => vec![name],
        Names::Many(names) => names,
    };
    let projection = |name: String| {
        Projection::of_name(&name).ok_or_else(|| {
            let known = Projection::ALL.map(Projection::name).join(", ");
            serde::de::Error::custom(format!("{name:?} is no projection of a block\nhint: known are {known}"))
        })
    };
    names.into_iter().map(projection).collect()
}

/// A linear projection of a block, by its Hugging Face name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Projection {
    /// Of queries.
    QProj,
    /// Of keys.
    KProj,
    /// Of values.
    VProj,
    /// Of attention's output.
    OProj,
    /// The gate of the feed-forward layer.
    GateProj,
    /// What is gated.
    UpProj,
    /// Back to the residual stream.
    DownProj,
}

impl Projection {
    /// All of them in a block's order.
    pub const ALL: [Self; 7] =
        [Self::QProj, Self::KProj, Self::VProj, Self::OProj, Self::GateProj, Self::UpProj, Self::DownProj];

    /// The name, such as `q_proj`.
    pub fn name(self) -> &'static str {
        match self {
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::OProj => "o_proj",
            Self::GateProj => "gate_proj",
            Self::UpProj => "up_proj",
            Self::DownProj => "down_proj",
        }
    }

    /// The projection of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|projection| projection.name() == name)
    }

    /// Path of its module in a block, such as `self_attn.q_proj`.
    pub fn path(self) -> String {
        let parent = match self {
            Self::QProj | Self::KProj | Self::VProj | Self::OProj => "self_attn",
            Self::GateProj | Self::UpProj | Self::DownProj => "mlp",
        };
        format!("{parent}.{}", self.name())
    }

    /// Shape `[out, in]` of its weight.
    pub fn shape(self, config: &crate::LlamaConfig) -> [usize; 2] {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        match self {
            Self::QProj => [queries, hidden],
            Self::KProj | Self::VProj => [keys, hidden],
            Self::OProj => [hidden, queries],
            Self::GateProj | Self::UpProj => [inner, hidden],
            Self::DownProj => [hidden, inner],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_is_twice_the_rank_unless_it_is_given() {
        let read = |text: &str| serde_json::from_str::<LoraConfig>(text).unwrap();
        assert_eq!(read("{}"), LoraConfig::default());
        let default = LoraConfig::default();
        assert_eq!((default.rank, default.alpha, default.dropout), (16, 32.0, 0.0));
        assert_eq!(default.target_modules, Projection::ALL.into());
        let read = read(r#"{"rank": 4, "target_modules": "v_proj"}"#);
        assert_eq!((read.rank, read.alpha, read.scale()), (4, 8.0, 2.0));
        assert_eq!(read.target_modules, [Projection::VProj].into());
        let again = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
        assert_eq!(read, again);
    }
}
