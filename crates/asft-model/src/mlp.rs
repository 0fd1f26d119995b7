//! The gated feed-forward layer.

use burn::{module::Module, tensor::Tensor};

use crate::{
    Linear,
    ops::{LlamaBackend, primitive, tensor},
};

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
    /// `[tokens, hidden]` to the same shape.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let gate = self.gate_proj.forward(x.clone());
        let up = self.up_proj.forward(x);
        let down = self.down_proj.weight.val();
        assert_eq!(
            gate.dims(),
            [gate.dims()[0], down.dims()[1]],
            "gate against a weight of {:?}",
            down.dims()
        );
        tensor(B::swiglu_project(primitive(gate), primitive(up), primitive(down)))
    }
}
