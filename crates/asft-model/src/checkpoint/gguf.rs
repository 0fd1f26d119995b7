//! A GGUF file of architecture `llama` as a source of weights.

use std::path::Path;

use asft_data::gguf::GgufFile;

use super::{WeightSource, checked, dequantize::dequantize, missing};
use crate::{LlamaConfig, ModelError};

/// A GGUF model, memory-mapped.
pub struct GgufModel {
    file: GgufFile,
    config: LlamaConfig,
}

impl GgufModel {
    /// Opens the container and reads the model's shape from its metadata.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = GgufFile::open(path)?;
        let config = LlamaConfig::from_gguf(&file)?;
        Ok(Self { file, config })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The shape of the model.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }
}

impl WeightSource for GgufModel {
    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let ggml = ggml_name(name).ok_or_else(|| missing(self.file.path(), name))?;
        let tensor = self.file.tensor(&ggml).ok_or_else(|| missing(self.file.path(), name))?;
        // GGUF counts dimensions from the fastest one.
        let found: Vec<usize> = tensor.dims.iter().rev().map(|&d| d as usize).collect();
        let values = checked(self.file.path(), name, shape, &found, || {
            dequantize(tensor.kind, self.file.bytes(tensor))
        })?;
        let heads = match ggml.rsplit('.').nth(1) {
            Some("attn_q") => self.config.num_attention_heads,
            Some("attn_k") => self.config.num_key_value_heads,
            _ => return Ok(values),
        };
        Ok(half_split_rows(&values, heads, shape[1]))
    }
}

/// GGUF's name of a Hugging Face tensor.
fn ggml_name(name: &str) -> Option<String> {
    let part = match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".into()),
        "model.norm.weight" => return Some("output_norm.weight".into()),
        "lm_head.weight" => return Some("output.weight".into()),
        _ => name.strip_prefix("model.layers.")?,
    };
    let (layer, part) = part.split_once('.')?;
    let part = match part {
        "input_layernorm.weight" => "attn_norm",
        "self_attn.q_proj.weight" => "attn_q",
        "self_attn.k_proj.weight" => "attn_k",
        "self_attn.v_proj.weight" => "attn_v",
        "self_attn.o_proj.weight" => "attn_output",
        "post_attention_layernorm.weight" => "ffn_norm",
        "mlp.gate_proj.weight" => "ffn_gate",
        "mlp.up_proj.weight" => "ffn_up",
        "mlp.down_proj.weight" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.weight"))
}

/// llama.cpp stores the rows of a head as rotated pairs side by side; Hugging Face has first halves, then
/// second halves.
fn half_split_rows(values: &[f32], heads: usize, width: usize) -> Vec<f32> {
    let head_dim = values.len() / width / heads;
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks_exact(head_dim * width) {
        for half in 0..2 {
            for pair in head.chunks_exact(2 * width) {
                out.extend_from_slice(&pair[half * width..(half + 1) * width]);
            }
        }
    }
    out
}

/// Values of a tensor by its GGUF name.
pub(crate) fn f32_values(file: &GgufFile, name: &str) -> Result<Vec<f32>, ModelError> {
    let tensor = file.tensor(name).ok_or_else(|| missing(file.path(), name))?;
    let dims: Vec<usize> = tensor.dims.iter().map(|&d| d as usize).collect();
    checked(file.path(), name, &dims, &dims, || dequantize(tensor.kind, file.bytes(tensor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_head_are_unpaired() {
        // Two heads of four rows, one column: rows 0 1 2 3 are (0, 1), (2, 3).
        let values: Vec<f32> = (0..8).map(|i| i as f32).collect();
        assert_eq!(half_split_rows(&values, 2, 1), [0., 2., 1., 3., 4., 6., 5., 7.]);
    }
}
