//! Types, norms, positions, gates, log-probs and the optimizer's step as [`crate::host`] does them.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{DType, Tensor, TensorMetadata},
};

use super::{Element, by_type, contiguous, from_values, values};
use crate::{
    host::{self, Number},
    ops::{AdamWState, AdamWStep, primitive, tensor},
};

pub fn cast(x: FlexTensor, dtype: DType) -> FlexTensor {
    if x.dtype() == dtype {
        return x;
    }
    let (shape, x) = (x.shape(), contiguous(x));
    by_type!(x.dtype(), T => by_type!(dtype, U => {
        from_values(host::cast::<T, U>(values(&x)), shape)
    }))
}

pub fn rms_norm(x: FlexTensor, weight: FlexTensor, eps: f64) -> FlexTensor {
    let shape = x.shape();
    let [x, weight] = [x, weight].map(contiguous);
    by_type!(x.dtype(), T => {
        let mut out = zeros::<T>(&x);
        host::rms_norm::forward(values::<T>(&x), values(&weight), eps, &mut out);
        from_values(out, shape)
    })
}

pub fn rms_norm_backward(x: FlexTensor, weight: FlexTensor, eps: f64, grad: FlexTensor) -> [FlexTensor; 2] {
    let [x, weight, mut grad] = [x, weight, grad].map(contiguous);
    let by_weight = by_type!(x.dtype(), T => {
        let by_weight = host::rms_norm::backward::<T>(values(&x), values(&weight), eps, grad.storage_mut());
        from_values(by_weight.into_iter().map(<T as Number>::put).collect(), weight.shape())
    });
    [grad, by_weight]
}

/// In place where nobody else holds `x`.
pub fn rotary(x: FlexTensor, cos: FlexTensor, sin: FlexTensor) -> FlexTensor {
    let [_, heads, dim] = x.shape().dims();
    let [mut x, cos, sin] = [x, cos, sin].map(contiguous);
    by_type!(x.dtype(), T => {
        host::rotary::rotate::<T>(x.storage_mut(), heads * dim, dim, values(&cos), values(&sin));
    });
    x
}

pub fn swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
    let shape = gate.shape();
    let [gate, up] = [gate, up].map(contiguous);
    by_type!(gate.dtype(), T => {
        let mut out = zeros::<T>(&gate);
        host::swiglu::forward(values(&gate), values(&up), &mut out);
        from_values(out, shape)
    })
}

/// In the places of gate and up, which are copied only where somebody else holds them.
pub fn swiglu_backward(gate: FlexTensor, up: FlexTensor, grad: FlexTensor) -> [FlexTensor; 2] {
    let [mut gate, mut up, grad] = [gate, up, grad].map(contiguous);
    by_type!(grad.dtype(), T => {
        host::swiglu::backward::<T>(gate.storage_mut(), up.storage_mut(), values(&grad));
    });
    [gate, up]
}

pub fn label_log_probs(logits: FlexTensor, labels: FlexTensor) -> FlexTensor {
    let logits = contiguous(logits);
    let log_probs =
        by_type!(logits.dtype(), T => host::log_probs::forward::<T>(values(&logits), &places(labels)));
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
    let log_probs = by_type!(logits.dtype(), T => host::log_probs::forward_and_gradient::<T>(
        logits.storage_mut(),
        &places(labels),
        values(&coefficients),
    ));
    let rows = log_probs.len();
    (from_values(log_probs, [rows]), logits)
}

fn zeros<T: Element>(like: &FlexTensor) -> Vec<T> {
    T::zeros(like.shape().num_elements())
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
    let [mut value, gradient, mut first, mut second] =
        [value, gradient, first, second].map(|t| contiguous(primitive(t)));
    by_type!(value.dtype(), V => by_type!(first.dtype(), S => host::adamw::step::<V, S>(
        value.storage_mut(),
        first.storage_mut(),
        second.storage_mut(),
        values(&gradient),
        step,
    )));
    (tensor(value), AdamWState { first: tensor(first), second: tensor(second) })
}
