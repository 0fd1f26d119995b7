//! A linear map whose weight lies as Hugging Face stores it.

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

use crate::ops::{LlamaBackend, primitive, tensor};

/// `y = x Wᵀ` with `weight` of shape `[out, in]`; Llama has no biases.
#[derive(Module, Debug)]
pub struct Linear<B: LlamaBackend> {
    /// `[out, in]`.
    pub weight: Param<Tensor<B, 2>>,
}

impl<B: LlamaBackend> Linear<B> {
    /// `[tokens, in]` to `[tokens, out]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let weight = self.weight.val();
        assert_eq!(x.dims()[1], weight.dims()[1], "input against a weight of {:?}", weight.dims());
        tensor(B::project(primitive(x), primitive(weight)))
    }
}
