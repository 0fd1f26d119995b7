//! The normalisation layer.

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

use crate::ops::{LlamaBackend, primitive, tensor};

/// `x / sqrt(mean(x²) + eps) * weight` over the last dimension.
#[derive(Module, Debug)]
pub struct RmsNorm<B: LlamaBackend> {
    /// `[hidden]`.
    pub weight: Param<Tensor<B, 1>>,
    /// Added to the mean square.
    pub eps: f64,
}

impl<B: LlamaBackend> RmsNorm<B> {
    /// `[tokens, hidden]` to the same shape and type; the arithmetic is f32 whatever the type.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let weight = self.weight.val();
        assert_eq!(x.dims()[1], weight.dims()[0], "input against the weight of a norm");
        tensor(B::rms_norm(primitive(x), primitive(weight), self.eps))
    }
}
