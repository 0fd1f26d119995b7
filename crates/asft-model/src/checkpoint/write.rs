//! Writing checkpoints that transformers loads.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fs::File,
    path::Path,
};

use burn::tensor::{Tensor, backend::Backend};
use safetensors::{Dtype, View};
use serde_json::json;

use crate::{Llama, LlamaBackend, LlamaConfig, ModelError, WeightType, parameters};

/// Bytes of a shard, as transformers splits.
const SHARD_BYTES: usize = 5_000_000_000;

/// A tensor on its way to disk; its values leave the device only when they are written.
pub struct NamedTensor<B: Backend> {
    /// Name in the file.
    pub name: String,
    /// Shape in the file.
    pub shape: Vec<usize>,
    /// The values, flat.
    pub values: Tensor<B, 1>,
}

impl<B: Backend> NamedTensor<B> {
    /// The type in which it is written: its own, or f32 where no model is kept in that.
    fn weight_type(&self) -> WeightType {
        WeightType::of(self.values.dtype()).unwrap_or_default()
    }
}

impl<B: Backend> View for &NamedTensor<B> {
    fn dtype(&self) -> Dtype {
        match self.weight_type() {
            WeightType::F32 => Dtype::F32,
            WeightType::Bf16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let data = self.values.clone().cast(self.weight_type().dtype()).into_data();
        Cow::Owned(data.bytes.to_vec())
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.weight_type().bytes()
    }
}

/// Writes tensors in their types and syncs the file.
pub fn write_safetensors<B: Backend>(path: &Path, tensors: &[NamedTensor<B>]) -> Result<(), ModelError> {
    write_shard(path, &tensors.iter().collect::<Vec<_>>())
}

fn write_shard<B: Backend>(path: &Path, tensors: &[&NamedTensor<B>]) -> Result<(), ModelError> {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let views = tensors.iter().map(|tensor| (&tensor.name, *tensor));
    let write = || {
        // The library writes a private file and renames it: what any other new file may be read by, this may too.
        let permissions = File::create(path)?.metadata()?.permissions();
        safetensors::serialize_to_file(views, Some(metadata), path).map_err(std::io::Error::other)?;
        std::fs::set_permissions(path, permissions)?;
        File::open(path)?.sync_all()
    };
    write().map_err(ModelError::io(path))
}

/// Parameters of a model under their Hugging Face names.
pub fn named_tensors<B: LlamaBackend>(model: &Llama<B>) -> Vec<NamedTensor<B>> {
    let mut tensors = vec![];
    parameters::for_each(model, |name, values, shape| {
        tensors.push(NamedTensor { name: name.to_owned(), shape: shape.to_vec(), values });
    });
    tensors
}

/// Writes `config.json`, the weights in as many shards as they need, and `files` (tokenizer, template) into
/// an existing directory.
///
/// # Panics
/// If the model has adapters, or weights that are kept as codes: both would be lost.
pub fn write_model<B: LlamaBackend>(
    directory: &Path,
    config: &LlamaConfig,
    model: &Llama<B>,
    files: &[(String, Vec<u8>)],
) -> Result<(), ModelError> {
    write_model_in_shards(directory, config, model, files, SHARD_BYTES)
}

fn write_model_in_shards<B: LlamaBackend>(
    directory: &Path,
    config: &LlamaConfig,
    model: &Llama<B>,
    files: &[(String, Vec<u8>)],
    shard_bytes: usize,
) -> Result<(), ModelError> {
    let tensors = named_tensors(model);
    // Embedding and final norm, nine tensors a block, and a head of its own.
    let whole = 2 + 9 * model.model.layers.len() + usize::from(model.lm_head.is_some());
    assert_eq!(tensors.len(), whole, "tensors of a model without adapters and codes");
    let weight_type = tensors.first().map(NamedTensor::weight_type).unwrap_or_default();
    let mut shards: Vec<(usize, Vec<&NamedTensor<B>>)> = vec![];
    for tensor in &tensors {
        let bytes = (&tensor).data_len();
        match shards.last_mut() {
            Some((filled, shard)) if *filled + bytes <= shard_bytes => {
                *filled += bytes;
                shard.push(tensor);
            }
            _ => shards.push((bytes, vec![tensor])),
        }
    }
    let mut weight_map = BTreeMap::new();
    for (number, (_, shard)) in shards.iter().enumerate() {
        let file = match shards.len() {
            1 => "model.safetensors".to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        };
        write_shard(&directory.join(&file), shard)?;
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), file.clone())));
    }
    if shards.len() > 1 {
        let total: usize = shards.iter().map(|(bytes, _)| bytes).sum();
        let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
        write_file(&directory.join("model.safetensors.index.json"), &pretty(&index))?;
    }
    write_file(&directory.join("config.json"), &pretty(&config.to_json(weight_type)))?;
    files.iter().try_for_each(|(name, bytes)| write_file(&directory.join(name), bytes))
}

pub(super) fn pretty(value: &serde_json::Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let write = || {
        let mut file = File::create(path)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    write().map_err(ModelError::io(path))
}

#[cfg(all(test, feature = "flex"))]
mod tests;
