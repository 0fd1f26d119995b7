//! The demonstration that needs no download: a tiny Llama-3-shaped model with random weights and a small
//! preference set made for this project (`quickstart/make.py`).

use std::path::Path;

use asft_data::{DataError, Tokenizer, read::Source};
use asft_model::LlamaConfig;

use crate::error::TrainError;

/// What `model.path` and `data.train` say to mean the embedded model and pairs.
pub const NAME: &str = "embedded:quickstart";

/// The configuration of `asft train` without `--config`.
pub const CONFIG: &str = include_str!("../../../quickstart/quickstart.toml");

/// Which of the embedded pairs.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// For training.
    Train,
    /// Held out.
    HeldOut,
}

/// The embedded pairs.
pub fn source(part: Part) -> Source {
    match part {
        Part::Train => Source::Embedded {
            name: "quickstart/pairs.jsonl",
            bytes: include_bytes!("../../../quickstart/pairs.jsonl"),
        },
        Part::HeldOut => Source::Embedded {
            name: "quickstart/held_out.jsonl",
            bytes: include_bytes!("../../../quickstart/held_out.jsonl"),
        },
    }
}

/// Shape of the embedded model.
pub fn model_config() -> Result<LlamaConfig, TrainError> {
    Ok(LlamaConfig::from_json(
        include_bytes!("../../../quickstart/config.json"),
        Path::new("quickstart/config.json"),
    )?)
}

/// Its tokenizer.
pub fn tokenizer() -> Result<Tokenizer, TrainError> {
    Ok(Tokenizer::from_json(
        "quickstart",
        include_bytes!("../../../quickstart/tokenizer.json"),
        include_bytes!("../../../quickstart/tokenizer_config.json"),
    )
    .map_err(DataError::from)?)
}
