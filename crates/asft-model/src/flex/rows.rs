//! Norms, positions, gates, log-probs and the optimizer's step as [`crate::host`] does them.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{DType, Tensor, TensorMetadata},
};
use half::bf16;

use super::{contiguous, from_values, values};
use crate::{
    WeightType, host,
    ops::{AdamWState, AdamWStep, primitive, tensor},
};

pub fn rms_norm(x: FlexTensor, weight: FlexTensor, eps: f64) -> FlexTensor {
    let shape = x.shape();
    let [x, weight] = [x, weight].map(contiguous);
    let mut out = vec![0.0; values(&x).len()];
    host::rms_norm::forward(values(&x), values(&weight), eps, &mut out);
    from_values(out, shape)
}

pub fn rms_norm_backward(x: FlexTensor, weight: FlexTensor, eps: f64, grad: FlexTensor) -> [FlexTensor; 2] {
    let [x, weight, mut grad] = [x, weight, grad].map(contiguous);
    let by_weight = host::rms_norm::backward(values(&x), values(&weight), eps, grad.storage_mut());
    let width = by_weight.len();
    [grad, from_values(by_weight, [width])]
}

/// In place where nobody else holds `x`.
pub fn rotary(x: FlexTensor, cos: FlexTensor, sin: FlexTensor) -> FlexTensor {
    let [_, heads, dim] = x.shape().dims();
    let [mut x, cos, sin] = [x, cos, sin].map(contiguous);
    host::rotary::rotate::<f32>(x.storage_mut(), heads * dim, dim, values(&cos), values(&sin));
    x
}

pub fn swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
    let shape = gate.shape();
    let [gate, up] = [gate, up].map(contiguous);
    let mut out = vec![0.0; values(&gate).len()];
    host::swiglu::forward(values(&gate), values(&up), &mut out);
    from_values(out, shape)
}

/// In the places of gate and up, which are copied only where somebody else holds them.
pub fn swiglu_backward(gate: FlexTensor, up: FlexTensor, grad: FlexTensor) -> [FlexTensor; 2] {
    let [mut gate, mut up, grad] = [gate, up, grad].map(contiguous);
    host::swiglu::backward(gate.storage_mut(), up.storage_mut(), values(&grad));
    [gate, up]
}

pub fn label_log_probs(logits: FlexTensor, labels: FlexTensor) -> FlexTensor {
    let logits = contiguous(logits);
    let log_probs = host::log_probs::forward(values(&logits), &places(labels));
    let rows = log_probs.len();
    from_values(log_probs, [rows])
}

/// The gradient takes the place of the logits where nobody else holds them.
pub fn label_log_probs_and_gradient(
    logits: FlexTensor,
    labels: FlexTensor,
    coefficients: FlexTensor,
) -> (FlexTensor, FlexTensor) {
    let [mut logits, coefficients] = [logits, coefficients].map(contiguous);
    let log_probs = host::log_probs::forward_and_gradient::<f32>(
        logits.storage_mut(),
        &places(labels),
        values(&coefficients),
    );
    let rows = log_probs.len();
    (from_values(log_probs, [rows]), logits)
}

fn places(labels: FlexTensor) -> Vec<usize> {
    let rows = labels.shape().num_elements();
    labels.to_contiguous().storage::<i32>()[..rows].iter().map(|&label| label as usize).collect()
}

/// In place where nobody else holds the parameter and its moments.
pub fn adamw(
    value: Tensor<Flex, 1>,
    gradient: Tensor<Flex, 1>,
    state: Option<AdamWState<Flex>>,
    step: AdamWStep,
) -> (Tensor<Flex, 1>, AdamWState<Flex>) {
    let zeros = || Tensor::zeros(value.shape(), (&value.device(), DType::from(step.state_type.dtype())));
    let AdamWState { first, second } =
        state.unwrap_or_else(|| AdamWState { first: zeros(), second: zeros() });
    let [mut value, gradient] = [value, gradient].map(|t| contiguous(primitive(t)));
    let [mut first, mut second] = [first, second].map(|t| primitive(t).to_contiguous());
    let (weights, gradient) = (value.storage_mut::<f32>(), values(&gradient));
    match step.state_type {
        WeightType::F32 => {
            host::adamw::step::<f32, f32>(weights, first.storage_mut(), second.storage_mut(), gradient, step)
        }
        WeightType::Bf16 => {
            host::adamw::step::<f32, bf16>(weights, first.storage_mut(), second.storage_mut(), gradient, step)
        }
    }
    (tensor(value), AdamWState { first: tensor(first), second: tensor(second) })
}
