//! See [`crate::LlamaBackend::swiglu`].

use burn::backend::libtorch::TchTensor;
use tch::Tensor;

pub fn forward(gate: &Tensor, up: &Tensor) -> TchTensor {
    TchTensor::new(gate.silu().g_mul_(up))
}

pub fn backward(gate: &Tensor, up: &Tensor, grad: &Tensor) -> [TchTensor; 2] {
    let by_up = gate.silu().g_mul_(grad);
    let by_gate = gate.silu_backward(&(grad * up));
    [by_gate, by_up].map(TchTensor::new)
}
