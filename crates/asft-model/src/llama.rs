//! The whole model, as a tree of parameters named like a Hugging Face checkpoint.

use burn::{
    module::{Module, Param},
    tensor::{DType, Int, Tensor, TensorData, backend::Backend},
};

use crate::{
    Block, Linear, LlamaBackend, LlamaConfig, ModelError, Quantization, RmsNorm, Stream, WeightType,
    attention::SelfAttention, checkpoint::WeightSource, mlp::Mlp, quantization::Quantized,
};

/// A Llama language model.
#[derive(Module, Debug)]
pub struct Llama<B: LlamaBackend> {
    /// Embedding, blocks and final norm.
    pub model: Decoder<B>,
    /// The head's matrix where it is not the embedding's.
    pub lm_head: Option<Linear<B>>,
}

/// Everything below the head.
#[derive(Module, Debug)]
pub struct Decoder<B: LlamaBackend> {
    /// Token embedding.
    pub embed_tokens: Embedding<B>,
    /// The blocks.
    pub layers: Vec<Block<B>>,
    /// Final norm.
    pub norm: RmsNorm<B>,
}

/// The embedding matrix.
#[derive(Module, Debug)]
pub struct Embedding<B: Backend> {
    /// `[vocab, hidden]`.
    pub weight: Param<Tensor<B, 2>>,
}

impl<B: LlamaBackend> Llama<B> {
    /// Builds the model of `config` in f32, asking `weights` for one tensor after the other.
    pub fn load(
        config: &LlamaConfig,
        weights: &mut dyn WeightSource,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        Self::load_as(WeightType::F32, None, config, weights, device)
    }

    /// [`Self::load`] with weights of a type of choice, rounded to the nearest where they do not fit; the blocks'
    /// projections are kept as codes where `quantization` says so.
    pub fn load_as(
        weight_type: WeightType,
        quantization: Option<Quantization>,
        config: &LlamaConfig,
        weights: &mut dyn WeightSource,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let hidden = config.hidden_size;
        let q = config.num_attention_heads * config.head_dim;
        let kv = config.num_key_value_heads * config.head_dim;
        let mut load = Loader { weights, weight_type, quantization, device, eps: config.rms_norm_eps };
        let embed_tokens =
            Embedding { weight: load.param("model.embed_tokens.weight", [config.vocab_size, hidden])? };
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            layers.push(Block {
                input_layernorm: load.norm(&name("input_layernorm"), hidden)?,
                self_attn: SelfAttention {
                    q_proj: load.linear(&name("self_attn.q_proj"), [q, hidden])?,
                    k_proj: load.linear(&name("self_attn.k_proj"), [kv, hidden])?,
                    v_proj: load.linear(&name("self_attn.v_proj"), [kv, hidden])?,
                    o_proj: load.linear(&name("self_attn.o_proj"), [hidden, q])?,
                    head_dim: config.head_dim,
                },
                post_attention_layernorm: load.norm(&name("post_attention_layernorm"), hidden)?,
                mlp: Mlp {
                    gate_proj: load.linear(&name("mlp.gate_proj"), [config.intermediate_size, hidden])?,
                    up_proj: load.linear(&name("mlp.up_proj"), [config.intermediate_size, hidden])?,
                    down_proj: load.linear(&name("mlp.down_proj"), [hidden, config.intermediate_size])?,
                },
            });
        }
        let norm = load.norm("model.norm.weight", hidden)?;
        let lm_head = match config.tie_word_embeddings {
            true => None,
            false => Some(Linear::new(load.param("lm_head.weight", [config.vocab_size, hidden])?)),
        };
        let unused = weights.unused();
        if let Some(first) = unused.first() {
            tracing::warn!(
                "{} tensors of the checkpoint are not used, {first} among them: the config describes a smaller model",
                unused.len()
            );
        }
        Ok(Self { model: Decoder { embed_tokens, layers, norm }, lm_head })
    }

    /// The head's matrix `[vocab, hidden]`, shared with the embedding in tied models.
    pub fn head_weight(&self) -> Tensor<B, 2> {
        match &self.lm_head {
            Some(head) => head.weight(),
            None => self.model.embed_tokens.weight.val(),
        }
    }

    /// Path of the parameter that [`Self::head_weight`] returns.
    pub fn head_weight_path(&self) -> &'static str {
        match &self.lm_head {
            Some(_) => "lm_head.weight",
            None => "model.embed_tokens.weight",
        }
    }

    /// Rows of the embedding: ids `[tokens]` to `[tokens, hidden]`.
    pub fn embed(&self, ids: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        self.model.embed_tokens.weight.val().select(0, ids)
    }

    /// Ids on the device of the model. Every id must lie below the vocabulary's size.
    pub fn ids(&self, token_ids: &[u32]) -> Tensor<B, 1, Int> {
        let weight = self.model.embed_tokens.weight.val();
        index_tensor(token_ids, weight.dims()[0], &weight.device())
    }

    /// Final hidden states of a stream, normed: ids `[tokens]` to `[tokens, hidden]`.
    pub fn hidden_states(&self, token_ids: &[u32], stream: &Stream<B>) -> Tensor<B, 2> {
        let embedded = self.embed(self.ids(token_ids));
        let residual = self.model.layers.iter().fold(embedded, |x, block| block.forward(x, stream));
        self.model.norm.forward(residual)
    }
}

/// `indices` as an int tensor; panics where one is not below `bound`, since a backend may not notice.
pub(crate) fn index_tensor<B: Backend>(
    indices: &[u32],
    bound: usize,
    device: &B::Device,
) -> Tensor<B, 1, Int> {
    let highest = indices.iter().max().copied().unwrap_or(0) as usize;
    assert!(highest < bound, "index {highest} into a dimension of {bound}");
    let indices: Vec<i32> = indices.iter().map(|&index| index as i32).collect();
    let length = indices.len();
    Tensor::from_data(TensorData::new(indices, [length]), device)
}

struct Loader<'a, B: Backend> {
    weights: &'a mut dyn WeightSource,
    weight_type: WeightType,
    quantization: Option<Quantization>,
    device: &'a B::Device,
    eps: f64,
}

impl<B: LlamaBackend> Loader<'_, B> {
    fn param<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Param<Tensor<B, D>>, ModelError> {
        let values = self.weights.weight(name, &shape)?;
        let options = (self.device, DType::from(self.weight_type.dtype()));
        Ok(Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), options)))
    }

    fn linear(&mut self, name: &str, shape: [usize; 2]) -> Result<Linear<B>, ModelError> {
        Ok(match self.quantization {
            None => Linear::new(self.param(name, shape)?),
            Some(quantization) => {
                let values = self.weights.weight(name, &shape)?;
                Linear::quantized(Quantized::new(quantization, &values, shape, self.device))
            }
        })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<RmsNorm<B>, ModelError> {
        Ok(RmsNorm { weight: self.param(name, [width])?, eps: self.eps })
    }
}
