//! Attention as [`crate::host`] does it.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};

use super::{Element, by_type, contiguous, from_values, values};
use crate::{
    host::{Number, attention},
    ops::AttentionInputs,
};

/// See [`crate::LlamaBackend::packed_attention_forward`]; the output is f32.
pub fn forward(inputs: AttentionInputs<Flex>) -> (FlexTensor, FlexTensor) {
    let [tokens, heads, dim] = inputs.q.shape().dims();
    let inputs = in_order(inputs);
    let [out, lse] = by_type!(inputs.q.dtype(), T => attention::forward(call::<T>(&inputs)));
    (from_values(out, [tokens, heads, dim]), from_values(lse, [tokens, heads]))
}

/// See [`crate::LlamaBackend::packed_attention_backward`].
pub fn backward(
    inputs: AttentionInputs<Flex>,
    out: FlexTensor,
    lse: FlexTensor,
    grad: FlexTensor,
) -> [FlexTensor; 3] {
    let [q, k, v] = [&inputs.q, &inputs.k, &inputs.v].map(TensorMetadata::shape);
    let (inputs, [out, lse, grad]) = (in_order(inputs), [out, lse, grad].map(contiguous));
    by_type!(grad.dtype(), T => {
        let gradients = attention::backward(call::<T>(&inputs), values(&out), values(&lse), values(&grad));
        let [dq, dk, dv] = gradients.map(<T as Number>::narrow);
        [from_values(dq, q), from_values(dk, k), from_values(dv, v)]
    })
}

fn in_order(inputs: AttentionInputs<Flex>) -> AttentionInputs<Flex> {
    let AttentionInputs { q, k, v, layout, scale } = inputs;
    let [q, k, v] = [q, k, v].map(contiguous);
    AttentionInputs { q, k, v, layout, scale }
}

fn call<T: Element>(inputs: &AttentionInputs<Flex>) -> attention::Call<'_, T> {
    let ([_, heads, dim], [_, kv_heads, _]) = (inputs.q.shape().dims(), inputs.k.shape().dims());
    attention::Call {
        q: values(&inputs.q),
        k: values(&inputs.k),
        v: values(&inputs.v),
        layout: &inputs.layout,
        scale: inputs.scale as f32,
        heads,
        kv_heads,
        dim,
    }
}
