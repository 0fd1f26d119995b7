//! A linear map whose weight lies as Hugging Face stores it.

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

use crate::{
    lora::Adapter,
    ops::{LlamaBackend, primitive, tensor},
};

/// `y = x Wᵀ` with `weight` of shape `[out, in]`; Llama has no biases. With an adapter, its output is added.
#[derive(Module, Debug)]
pub struct Linear<B: LlamaBackend> {
    /// `[out, in]`.
    pub weight: Param<Tensor<B, 2>>,
    /// What is trained in place of a frozen weight.
    pub adapter: Option<Adapter<B>>,
}

impl<B: LlamaBackend> Linear<B> {
    /// `[tokens, in]` to `[tokens, out]`; `dropout` is that of a [`crate::Stream`].
    pub fn forward(&self, x: Tensor<B, 2>, dropout: Option<u64>) -> Tensor<B, 2> {
        let weight = self.weight.val();
        assert_eq!(x.dims()[1], weight.dims()[1], "input against a weight of {:?}", weight.dims());
        let project = |x| tensor(B::project(primitive(x), primitive(weight)));
        match &self.adapter {
            None => project(x),
            Some(adapter) => project(x.clone()) + adapter.forward(x, dropout),
        }
    }

    /// [`Self::forward`] of `silu(gate) * up`, both `[tokens, in]`.
    pub fn forward_gated(&self, gate: Tensor<B, 2>, up: Tensor<B, 2>, dropout: Option<u64>) -> Tensor<B, 2> {
        let weight = self.weight.val();
        assert_eq!(gate.dims()[1], weight.dims()[1], "gate against a weight of {:?}", weight.dims());
        assert_eq!(up.dims(), gate.dims(), "what is gated against the gate");
        let project = |gate, up| tensor(B::swiglu_project(primitive(gate), primitive(up), primitive(weight)));
        match &self.adapter {
            None => project(gate, up),
            Some(adapter) => project(gate.clone(), up.clone()) + adapter.forward_gated(gate, up, dropout),
        }
    }
}
