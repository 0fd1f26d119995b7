//! What can go wrong between a checkpoint on disk and a model on a device.

use std::path::PathBuf;

use asft_data::{DataError, gguf::GgufError};

/// An error that names the file, and the key or tensor in it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path names no model that can be read.
    #[error("{}: {what}\nhint: a model is a Hugging Face directory (config.json, tokenizer.json, *.safetensors), a .gguf file, a directory of an adapter (adapter_config.json) or a run directory", path.display())]
    NotAModel {
        /// The path given.
        path: PathBuf,
        /// What is missing there.
        what: String,
    },
    /// `config.json` or the GGUF metadata says something that cannot be used.
    #[error("{}: {key}: {what}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key in it.
        key: String,
        /// What is wrong with its value, and what would be right.
        what: String,
    },
    /// A container file is damaged.
    #[error("{}: {what}\nhint: the file may be truncated; fetch or copy it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A tensor is missing, misshaped, of an unknown type or not finite.
    #[error("{}: tensor {tensor}: {what}", path.display())]
    Tensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor's Hugging Face name.
        tensor: String,
        /// What is wrong with it.
        what: String,
    },
    /// An adapter has a factor that no weight of the model takes.
    #[error(
        "adapter tensor {tensor}: the model has no such layer\nhint: take the model that the adapter was trained on"
    )]
    UnusedFactor {
        /// PEFT's name of the factor.
        tensor: String,
    },
    /// The tokenizer cannot feed this model.
    #[error("{}: the tokenizer has {tokenizer_tokens} tokens but the model embeds only {vocab_size}\nhint: take tokenizer and weights from the same model", path.display())]
    Vocabulary {
        /// The model.
        path: PathBuf,
        /// Highest token id + 1 of the tokenizer.
        tokenizer_tokens: usize,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// The GGUF container or the tokenizer could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl From<GgufError> for ModelError {
    fn from(error: GgufError) -> Self {
        Self::Data(error.into())
    }
}

impl ModelError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
