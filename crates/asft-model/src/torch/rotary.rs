//! See [`crate::LlamaBackend::rotary`].

use burn::backend::libtorch::TchTensor;
use tch::Tensor;

use super::wide;

/// In f32, written into one buffer.
pub fn forward(x: &Tensor, cos: &Tensor, sin: &Tensor) -> TchTensor {
    let half = x.size()[2] / 2;
    let [cos, sin] = [cos, sin].map(|t| wide(t).unsqueeze(1));
    let x32 = wide(x);
    let [first, second] = [0, half].map(|start| x32.narrow(2, start, half));
    let out = x32.empty_like();
    let [mut low, mut high] = [0, half].map(|start| out.narrow(2, start, half));
    let _ = first.mul_out(&low, &cos);
    let _ = low.addcmul_(&second, &sin.neg());
    let _ = second.mul_out(&high, &cos);
    let _ = high.addcmul_(&first, &sin);
    TchTensor::new(out.to_kind(x.kind()))
}
