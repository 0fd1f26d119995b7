//! One decoder layer: attention and feed-forward, each behind a norm and added to the residual stream.

use burn::{module::Module, tensor::Tensor};

use crate::{LlamaBackend, RmsNorm, Stream, attention::SelfAttention, mlp::Mlp};

/// A decoder layer.
#[derive(Module, Debug)]
pub struct Block<B: LlamaBackend> {
    /// Before attention.
    pub input_layernorm: RmsNorm<B>,
    /// Grouped-query attention.
    pub self_attn: SelfAttention<B>,
    /// Before the feed-forward layer.
    pub post_attention_layernorm: RmsNorm<B>,
    /// Feed-forward layer.
    pub mlp: Mlp<B>,
}

impl<B: LlamaBackend> Block<B> {
    /// Residual stream `[tokens, hidden]` in and out.
    pub fn forward(&self, x: Tensor<B, 2>, stream: &Stream<B>) -> Tensor<B, 2> {
        self.forward_with(x, stream.dropout, |attention, x| attention.forward(x, stream))
    }

    /// Residual stream `[tokens, hidden]` in and out, through `attend`'s use of the attention layer; `dropout` is
    /// that of a [`Stream`].
    pub fn forward_with(
        &self,
        x: Tensor<B, 2>,
        dropout: Option<u64>,
        attend: impl FnOnce(&SelfAttention<B>, Tensor<B, 2>) -> Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        // What is added comes first: nobody else holds it, so the sum can take its place.
        let x = attend(&self.self_attn, self.input_layernorm.forward(x.clone())) + x;
        self.mlp.forward(self.post_attention_layernorm.forward(x.clone()), dropout) + x
    }
}
