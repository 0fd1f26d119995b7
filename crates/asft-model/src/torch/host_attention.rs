//! Attention on the CPU as [`crate::host`] does it.

use burn::backend::{
    LibTorch,
    libtorch::{TchElement, TchTensor},
};
use tch::Tensor;

use super::{
    slices::{Element, by_kind, values},
    wide,
};
use crate::{host::attention, ops::AttentionInputs};

/// See [`crate::LlamaBackend::packed_attention_forward`]; the output is f32.
pub fn forward<E: TchElement>(inputs: &AttentionInputs<LibTorch<E>>) -> (TchTensor, TchTensor) {
    let operands = Operands::new(inputs);
    let [q, ..] = &operands.tensors;
    let [out, lse] = by_kind!(q.kind(), T => attention::forward(operands.call::<T>()));
    let out = Tensor::from_slice(&out).view(q.size().as_slice());
    (TchTensor::new(out), TchTensor::new(Tensor::from_slice(&lse).view([q.size()[0], q.size()[1]])))
}

/// See [`crate::LlamaBackend::packed_attention_backward`].
pub fn backward<E: TchElement>(
    inputs: &AttentionInputs<LibTorch<E>>,
    [out, lse, grad]: [&Tensor; 3],
) -> [TchTensor; 3] {
    let operands = Operands::new(inputs);
    let ([out, lse], grad) = ([out, lse].map(|t| wide(t).contiguous()), grad.contiguous());
    let [dq, dk, dv] = by_kind!(grad.kind(), T => {
        attention::backward(operands.call::<T>(), values(&out), values(&lse), values(&grad))
    });
    let AttentionInputs { q, k, v, .. } = inputs;
    [narrow(&dq, &q.tensor), narrow(&dk, &k.tensor), narrow(&dv, &v.tensor)]
}

/// The operands with their elements in order.
struct Operands<'a, E: TchElement> {
    inputs: &'a AttentionInputs<LibTorch<E>>,
    tensors: [Tensor; 3],
}

impl<'a, E: TchElement> Operands<'a, E> {
    fn new(inputs: &'a AttentionInputs<LibTorch<E>>) -> Self {
        Self { inputs, tensors: [&inputs.q, &inputs.k, &inputs.v].map(|t| t.tensor.contiguous()) }
    }

    fn call<T: Element>(&self) -> attention::Call<'_, T> {
        let [q, k, v] = &self.tensors;
        let [heads, kv_heads] = [q, k].map(|t| t.size()[1] as usize);
        attention::Call {
            q: values(q),
            k: values(k),
            v: values(v),
            layout: &self.inputs.layout,
            scale: self.inputs.scale as f32,
            heads,
            kv_heads,
            dim: q.size()[2] as usize,
        }
    }
}

/// In the shape and type of `like`.
fn narrow(values: &[f32], like: &Tensor) -> TchTensor {
    TchTensor::new(Tensor::from_slice(values).view(like.size().as_slice()).to_kind(like.kind()))
}
