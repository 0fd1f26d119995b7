//! See [`crate::LlamaBackend::rms_norm`].

use burn::backend::libtorch::TchTensor;
use tch::{Kind, Tensor};

use super::{wide, wide_copy};

pub fn forward(x: &Tensor, weight: &Tensor, eps: f64) -> TchTensor {
    let scaled = wide_copy(x).g_mul_(&reciprocal_root(x, eps)).g_mul_(&wide(weight));
    TchTensor::new(scaled.to_kind(x.kind()))
}

/// As the definition has it, with the normed row `n = x r` and `g = dy · weight`: `dx = r (g - n mean(n g))`.
pub fn backward(x: &Tensor, weight: &Tensor, eps: f64, grad: &Tensor) -> [TchTensor; 2] {
    let scale = reciprocal_root(x, eps);
    let mut normed = wide_copy(x).g_mul_(&scale);
    let mut grad = wide_copy(grad);
    let by_weight = (&grad * &normed).sum_dim_intlist(0, false, Kind::Float);
    grad = grad.g_mul_(&wide(weight));
    let mean = (&grad * &normed).mean_dim(1, true, Kind::Float);
    normed = normed.g_mul_(&mean);
    let by_x = grad.g_sub_(&normed).g_mul_(&scale);
    [TchTensor::new(by_x.to_kind(x.kind())), TchTensor::new(by_weight.to_kind(weight.kind()))]
}

/// `1 / sqrt(mean(x²) + eps)` of each row, f32.
fn reciprocal_root(x: &Tensor, eps: f64) -> Tensor {
    let width = x.size()[1] as f64;
    let norm = x.norm_scalaropt_dim_dtype(2.0, 1, true, Kind::Float);
    (norm.square() / width + eps).rsqrt_()
}
