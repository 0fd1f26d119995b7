//! Norms, positions, gates, log-probs and the optimizer's step on the CPU, as [`crate::host`] does them.
//!
//! LibTorch would pass over the numbers once for each part of them.

use burn::{
    backend::{
        LibTorch,
        libtorch::{TchElement, TchTensor},
    },
    tensor::{DType, Tensor},
};
use tch::Kind;

use super::{
    slices::{by_kind, own, values, values_mut},
    wide,
};
use crate::{
    host,
    ops::{AdamWState, AdamWStep, primitive, tensor},
};

pub fn rms_norm(x: &tch::Tensor, weight: &tch::Tensor, eps: f64) -> TchTensor {
    let [x, weight] = [x, weight].map(tch::Tensor::contiguous);
    let mut out = TchTensor::new(x.empty_like());
    by_kind!(x.kind(), T => host::rms_norm::forward::<T>(values(&x), values(&weight), eps, values_mut(&mut out)));
    out
}

/// The gradient of `x` takes the place of the incoming one where nobody else holds it.
pub fn rms_norm_backward(x: &tch::Tensor, weight: &tch::Tensor, eps: f64, grad: TchTensor) -> [TchTensor; 2] {
    let ([x, weight], mut grad) = ([x, weight].map(tch::Tensor::contiguous), own(grad));
    let by_weight = by_kind!(x.kind(), T => {
        host::rms_norm::backward::<T>(values(&x), values(&weight), eps, values_mut(&mut grad))
    });
    [grad, TchTensor::new(tch::Tensor::from_slice(&by_weight).to_kind(weight.kind()))]
}

/// In place where nobody else holds `x`.
pub fn rotary(x: TchTensor, cos: &tch::Tensor, sin: &tch::Tensor) -> TchTensor {
    let (mut x, [cos, sin]) = (own(x), [cos, sin].map(|t| wide(t).contiguous()));
    let [heads, dim] = [1, 2].map(|axis| x.tensor.size()[axis] as usize);
    by_kind!(x.tensor.kind(), T => {
        host::rotary::rotate::<T>(values_mut(&mut x), heads * dim, dim, values(&cos), values(&sin))
    });
    x
}

pub fn swiglu(gate: &tch::Tensor, up: &tch::Tensor) -> TchTensor {
    let [gate, up] = [gate, up].map(tch::Tensor::contiguous);
    let mut out = TchTensor::new(gate.empty_like());
    by_kind!(gate.kind(), T => host::swiglu::forward::<T>(values(&gate), values(&up), values_mut(&mut out)));
    out
}

/// In the places of gate and up where nobody else holds them.
pub fn swiglu_backward(gate: TchTensor, up: TchTensor, grad: &tch::Tensor) -> [TchTensor; 2] {
    let ([mut gate, mut up], grad) = ([gate, up].map(own), grad.contiguous());
    by_kind!(grad.kind(), T => {
        host::swiglu::backward::<T>(values_mut(&mut gate), values_mut(&mut up), values(&grad))
    });
    [gate, up]
}

pub fn label_log_probs(logits: &tch::Tensor, labels: &tch::Tensor) -> TchTensor {
    let (logits, labels) = (logits.contiguous(), places(labels));
    let log_probs = by_kind!(logits.kind(), T => host::log_probs::forward::<T>(values(&logits), &labels));
    TchTensor::new(tch::Tensor::from_slice(&log_probs))
}

/// The gradient takes the place of the logits where nobody else holds them.
pub fn label_log_probs_and_gradient(
    logits: TchTensor,
    labels: &tch::Tensor,
    coefficients: &tch::Tensor,
) -> (TchTensor, TchTensor) {
    let (mut logits, labels, coefficients) = (own(logits), places(labels), wide(coefficients).contiguous());
    let log_probs = by_kind!(logits.tensor.kind(), T => {
        host::log_probs::forward_and_gradient::<T>(values_mut(&mut logits), &labels, values(&coefficients))
    });
    (TchTensor::new(tch::Tensor::from_slice(&log_probs)), logits)
}

fn places(labels: &tch::Tensor) -> Vec<usize> {
    let labels: Vec<i64> =
        labels.to_kind(Kind::Int64).try_into().expect("labels are a list of whole numbers");
    labels.into_iter().map(|label| label as usize).collect()
}

/// In place where nobody else holds the parameter and its moments.
pub fn adamw<E: TchElement>(
    value: Tensor<LibTorch<E>, 1>,
    gradient: Tensor<LibTorch<E>, 1>,
    state: Option<AdamWState<LibTorch<E>>>,
    step: AdamWStep,
) -> (Tensor<LibTorch<E>, 1>, AdamWState<LibTorch<E>>) {
    let AdamWState { first, second } = state.unwrap_or_else(|| {
        let zeros =
            || Tensor::zeros(gradient.dims(), (&gradient.device(), DType::from(step.state_type.dtype())));
        AdamWState { first: zeros(), second: zeros() }
    });
    let [mut value, mut first, mut second] = [value, first, second].map(|t| own(primitive(t)));
    let gradient = primitive(gradient).tensor.contiguous();
    let (value_kind, state_kind) = (value.tensor.kind(), first.tensor.kind());
    by_kind!(value_kind, V => by_kind!(state_kind, S => host::adamw::step::<V, S>(
        values_mut(&mut value),
        values_mut(&mut first),
        values_mut(&mut second),
        values(&gradient),
        step,
    )));
    let [value, first, second] = [value, first, second].map(|t: TchTensor| tensor(t));
    (value, AdamWState { first, second })
}
