//! The gated feed-forward layer.

use burn::{module::Module, tensor::Tensor};

use crate::{Linear, ops::LlamaBackend};

/// `down(silu(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct Mlp<B: LlamaBackend> {
    /// `[intermediate, hidden]`.
    pub gate_proj: Linear<B>,
    /// `[intermediate, hidden]`.
    pub up_proj: Linear<B>,
    /// `[hidden, intermediate]`.
    pub down_proj: Linear<B>,
}

impl<B: LlamaBackend> Mlp<B> {
    /// `[tokens, hidden]` to the same shape; `dropout` is that of a [`crate::Stream`].
    pub fn forward(&self, x: Tensor<B, 2>, dropout: Option<u64>) -> Tensor<B, 2> {
        let gate = self.gate_proj.forward(x.clone(), dropout);
        let up = self.up_proj.forward(x, dropout);
        self.down_proj.forward_gated(gate, up, dropout)
    }
}
