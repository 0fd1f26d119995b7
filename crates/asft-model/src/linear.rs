//! A linear map whose weight lies as Hugging Face stores it.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

/// `y = x Wᵀ` with `weight` of shape `[out, in]`; Llama has no biases.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out, in]`.
    pub weight: Param<Tensor<B, 2>>,
}

impl<B: Backend> Linear<B> {
    /// `[tokens, in]` to `[tokens, out]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        x.matmul(self.weight.val().transpose())
    }
}
