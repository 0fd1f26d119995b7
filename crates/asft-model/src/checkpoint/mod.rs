//! Checkpoints: Hugging Face directories and PEFT's adapters in and out, GGUF files in.

mod dequantize;
mod directory;
mod gguf;
mod peft;
mod random;
mod safetensors;
mod saved;
mod write;

use std::path::{Path, PathBuf};

pub use directory::HfDirectory;
pub use gguf::GgufModel;
pub(crate) use gguf::f32_values as gguf_f32;
pub use peft::{ADAPTER_CONFIG, PeftAdapter, write_adapter};
pub use random::RandomWeights;
pub(crate) use random::hash;
pub use safetensors::SafetensorsFile;
pub use saved::SavedModel;
pub use write::{NamedTensor, named_tensors, write_model, write_safetensors};

use crate::{LlamaConfig, ModelError, WeightType};

/// Where a model's weights come from, one tensor at a time.
pub trait WeightSource {
    /// Values of the tensor with this Hugging Face name in row-major order, which must have this shape and
    /// hold finite numbers only.
    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError>;

    /// Tensors that are there and were not asked for.
    fn unused(&self) -> Vec<String> {
        vec![]
    }
}

/// A model on disk, its shape known and its weights not yet read.
pub enum Checkpoint {
    /// A Hugging Face directory.
    Directory(HfDirectory),
    /// A GGUF file.
    Gguf(GgufModel),
}

impl Checkpoint {
    /// Opens a Hugging Face directory, a GGUF file (or a directory with one and no `config.json`) or the newest
    /// checkpoint of a run directory.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let not_a_model = |what: &str| ModelError::NotAModel { path: path.to_owned(), what: what.into() };
        if path.is_file() {
            return match path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
                true => Ok(Self::Gguf(GgufModel::open(path)?)),
                false => Err(not_a_model("a file, but not a .gguf one")),
            };
        }
        if !path.is_dir() {
            return Err(not_a_model("no such file or directory"));
        }
        let newest = path.join("latest");
        match (path.join("config.json").is_file(), newest.join("config.json").is_file()) {
            (true, _) => Ok(Self::Directory(HfDirectory::open(path)?)),
            (false, true) => {
                let newest = newest.canonicalize().map_err(ModelError::io(&newest))?;
                Ok(Self::Directory(HfDirectory::open(&newest)?))
            }
            (false, false) => match gguf_files(path).map_err(ModelError::io(path))?.as_slice() {
                [file] => Ok(Self::Gguf(GgufModel::open(file)?)),
                [] => Err(not_a_model("config.json is missing")),
                files => Err(not_a_model(&format!(
                    "config.json is missing, and of {} .gguf files none is named in the path",
                    files.len()
                ))),
            },
        }
    }

    /// The shape of the model.
    pub fn config(&self) -> &LlamaConfig {
        match self {
            Self::Directory(directory) => directory.config(),
            Self::Gguf(file) => file.config(),
        }
    }

    /// The narrowest type that holds every weight as it is stored; f32 for what GGUF packs.
    pub fn weight_type(&self) -> Result<WeightType, ModelError> {
        match self {
            Self::Directory(directory) => directory.weight_type(),
            Self::Gguf(_) => Ok(WeightType::F32),
        }
    }

    /// The directory or file that holds weights and tokenizer.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(directory) => directory.path(),
            Self::Gguf(file) => file.path(),
        }
    }

    /// The files that say what the model computes: shape and weights.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Directory(directory) => directory.files(),
            Self::Gguf(file) => vec![file.path().to_owned()],
        }
    }

    /// The weights.
    pub fn weights(&mut self) -> &mut dyn WeightSource {
        match self {
            Self::Directory(directory) => directory,
            Self::Gguf(file) => file,
        }
    }

    /// Fails where the tokenizer has ids that the model cannot embed.
    pub fn check_vocabulary(&self, tokenizer_tokens: usize) -> Result<(), ModelError> {
        let vocab_size = self.config().vocab_size;
        match tokenizer_tokens <= vocab_size {
            true => Ok(()),
            false => {
                Err(ModelError::Vocabulary { path: self.path().to_owned(), tokenizer_tokens, vocab_size })
            }
        }
    }
}

/// The GGUF files of a directory.
fn gguf_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = vec![];
    for entry in directory.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Fails unless `found` is `wanted` and all values are finite numbers.
fn checked(
    path: &Path,
    name: &str,
    wanted: &[usize],
    found: &[usize],
    values: impl FnOnce() -> Result<Vec<f32>, String>,
) -> Result<Vec<f32>, ModelError> {
    let error = |what: String| ModelError::Tensor { path: path.to_owned(), tensor: name.into(), what };
    if wanted != found {
        return Err(error(format!("has shape {found:?} but the config asks for {wanted:?}")));
    }
    let values = values().map_err(error)?;
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(index) => {
            let what = format!(
                "element {index} is {}\nhint: the checkpoint is damaged or its training diverged",
                values[index]
            );
            Err(ModelError::Tensor { path: path.to_owned(), tensor: name.into(), what })
        }
    }
}

fn missing(path: &Path, name: &str) -> ModelError {
    ModelError::Tensor { path: path.to_owned(), tensor: name.into(), what: "missing".into() }
}

fn map_file(path: &PathBuf) -> Result<memmap2::Mmap, ModelError> {
    let file = std::fs::File::open(path).map_err(ModelError::io(path))?;
    #[expect(unsafe_code, reason = "a mapping is only unsound if the file is changed while it is read")]
    // SAFETY: checkpoints are written to a temporary name and renamed, never changed in place.
    unsafe { memmap2::Mmap::map(&file) }.map_err(ModelError::io(path))
}
