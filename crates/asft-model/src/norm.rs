//! Root-mean-square normalisation (arXiv 1910.07467), computed in f32.

use burn::{
    module::{Module, Param},
    tensor::{DType, Tensor, backend::Backend},
};

/// `x / sqrt(mean(x²) + eps) * weight` over the last dimension.
#[derive(Module, Debug)]
pub struct RmsNorm<B: Backend> {
    /// `[hidden]`.
    pub weight: Param<Tensor<B, 1>>,
    /// Added to the mean square.
    pub eps: f64,
}

impl<B: Backend> RmsNorm<B> {
    /// `[tokens, hidden]` to the same shape and type; the arithmetic is f32 whatever the type.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        let mean_square = (x.clone() * x.clone()).mean_dim(1);
        let scale = mean_square.add_scalar(self.eps).sqrt().recip();
        let weight = self.weight.val().cast(DType::F32).unsqueeze::<2>();
        ((x * scale) * weight).cast(dtype)
    }
}
