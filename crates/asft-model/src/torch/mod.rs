//! What LibTorch does faster than tensor operations can.
//!
//! On the CPU that is our own loops over LibTorch's memory, elsewhere its operations, fused by writing into buffers that
//! nobody else holds. Everything works in f32 and in bf16;
//! what is summed or normalised is f32 in between.

mod attention;
mod host_attention;
mod log_probs;
mod matrix;
mod rms_norm;
mod rotary;
mod rows;
mod slices;
mod swiglu;
#[cfg(test)]
#[path = "../host/tests.rs"]
mod tests;

use burn::{
    backend::{
        LibTorch,
        libtorch::{LibTorchDevice, TchElement, TchTensor},
    },
    tensor::Tensor,
};
use tch::{Kind, no_grad};

use self::slices::on_host;
use crate::ops::{
    AdamWState, AdamWStep, AttentionInputs, LlamaBackend, adamw as definition, primitive, tensor,
};

#[cfg(test)]
type Tested = LibTorch;

impl<E: TchElement> LlamaBackend for LibTorch<E> {
    /// Beyond the CPU without a log-sum-exp: the backward pass makes the weights again as the forward pass made them.
    fn packed_attention_forward(inputs: AttentionInputs<Self>) -> (TchTensor, TchTensor) {
        no_grad(|| {
            if on_host(&inputs.q) {
                return host_attention::forward(&inputs);
            }
            let out = attention::forward(&inputs);
            let nothing = tch::Tensor::empty([0], (Kind::Float, out.tensor.device()));
            (out, TchTensor::new(nothing))
        })
    }

    fn packed_attention_backward(
        inputs: AttentionInputs<Self>,
        out: TchTensor,
        lse: TchTensor,
        grad: TchTensor,
    ) -> [TchTensor; 3] {
        no_grad(|| match on_host(&grad) {
            true => host_attention::backward(&inputs, [&out.tensor, &lse.tensor, &grad.tensor]),
            false => attention::backward(&inputs, &grad.tensor),
        })
    }

    fn product(lhs: TchTensor, rhs: TchTensor) -> TchTensor {
        no_grad(|| matrix::product(lhs, rhs))
    }

    fn add_product(sum: TchTensor, lhs: TchTensor, rhs: TchTensor) -> TchTensor {
        no_grad(|| matrix::add_product(sum, lhs, rhs))
    }

    fn add_values(sum: Option<Tensor<Self, 1>>, values: Tensor<Self, 1>) -> Tensor<Self, 1> {
        let values = primitive(values);
        no_grad(|| match sum.map(primitive) {
            // What is f32 already stays known as shared, if it is.
            None if values.tensor.kind() == Kind::Float => tensor(values),
            None => tensor(TchTensor::new(wide(&values.tensor))),
            Some(mut sum) if sum.can_mut() => {
                sum.tensor = sum.tensor.g_add_(&values.tensor);
                tensor(sum)
            }
            Some(sum) => tensor(TchTensor::new(sum.tensor.g_add(&values.tensor))),
        })
    }

    fn rms_norm(x: TchTensor, weight: TchTensor, eps: f64) -> TchTensor {
        no_grad(|| match on_host(&x) {
            true => rows::rms_norm(&x.tensor, &weight.tensor, eps),
            false => rms_norm::forward(&x.tensor, &weight.tensor, eps),
        })
    }

    fn rms_norm_backward(x: TchTensor, weight: TchTensor, eps: f64, grad: TchTensor) -> [TchTensor; 2] {
        no_grad(|| match on_host(&x) {
            true => rows::rms_norm_backward(&x.tensor, &weight.tensor, eps, grad),
            false => rms_norm::backward(&x.tensor, &weight.tensor, eps, &grad.tensor),
        })
    }

    fn rotary(x: TchTensor, cos: TchTensor, sin: TchTensor) -> TchTensor {
        no_grad(|| match on_host(&x) {
            true => rows::rotary(x, &cos.tensor, &sin.tensor),
            false => rotary::forward(&x.tensor, &cos.tensor, &sin.tensor),
        })
    }

    fn swiglu(gate: TchTensor, up: TchTensor) -> TchTensor {
        no_grad(|| match on_host(&gate) {
            true => rows::swiglu(&gate.tensor, &up.tensor),
            false => swiglu::forward(&gate.tensor, &up.tensor),
        })
    }

    fn swiglu_backward(gate: TchTensor, up: TchTensor, grad: TchTensor) -> [TchTensor; 2] {
        no_grad(|| match on_host(&gate) {
            true => rows::swiglu_backward(gate, up, &grad.tensor),
            false => swiglu::backward(&gate.tensor, &up.tensor, &grad.tensor),
        })
    }

    fn label_log_probs(logits: TchTensor, labels: TchTensor) -> TchTensor {
        no_grad(|| match on_host(&logits) {
            true => rows::label_log_probs(&logits.tensor, &labels.tensor),
            false => log_probs::forward(&logits.tensor, &labels.tensor),
        })
    }

    fn label_log_probs_and_gradient(
        logits: TchTensor,
        labels: TchTensor,
        coefficients: TchTensor,
    ) -> (TchTensor, TchTensor) {
        no_grad(|| match on_host(&logits) {
            true => rows::label_log_probs_and_gradient(logits, &labels.tensor, &coefficients.tensor),
            false => log_probs::forward_and_gradient(logits, &labels.tensor, &coefficients.tensor),
        })
    }

    fn adamw(
        value: Tensor<Self, 1>,
        gradient: Tensor<Self, 1>,
        state: Option<AdamWState<Self>>,
        step: AdamWStep,
    ) -> (Tensor<Self, 1>, AdamWState<Self>) {
        match value.device() {
            LibTorchDevice::Cpu => rows::adamw(value, gradient, state, step),
            _ => definition::step(value, gradient, state, step),
        }
    }
}

/// In f32, which a tensor may be already.
fn wide(tensor: &tch::Tensor) -> tch::Tensor {
    tensor.to_kind(Kind::Float)
}

/// A tensor in f32 that may be written to.
fn wide_copy(tensor: &tch::Tensor) -> tch::Tensor {
    match tensor.kind() {
        Kind::Float => tensor.copy(),
        _ => tensor.to_kind(Kind::Float),
    }
}
