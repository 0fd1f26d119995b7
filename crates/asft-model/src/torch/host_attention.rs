//! Attention on the CPU as [`crate::host`] does it, in f32 whatever the type of the operands.
//!
//! Products of bf16 are no faster where one side is as narrow as a head, and between them LibTorch would write all
//! scores out.

use burn::backend::{
    LibTorch,
    libtorch::{TchElement, TchTensor},
};
use tch::Tensor;

use super::{slices::values, wide};
use crate::{host::attention, ops::AttentionInputs};

/// See [`crate::LlamaBackend::packed_attention_forward`]; the output is f32.
pub fn forward<E: TchElement>(inputs: &AttentionInputs<LibTorch<E>>) -> (TchTensor, TchTensor) {
    let q = &inputs.q.tensor;
    let [out, lse] = attention::forward(Wide::new(inputs).call());
    let out = Tensor::from_slice(&out).view(q.size().as_slice());
    (TchTensor::new(out), TchTensor::new(Tensor::from_slice(&lse).view([q.size()[0], q.size()[1]])))
}

/// See [`crate::LlamaBackend::packed_attention_backward`].
pub fn backward<E: TchElement>(
    inputs: &AttentionInputs<LibTorch<E>>,
    [out, lse, grad]: [&Tensor; 3],
) -> [TchTensor; 3] {
    let wide = Wide::new(inputs);
    let [out, lse, grad] = [out, lse, grad].map(in_order);
    let [dq, dk, dv] = attention::backward(wide.call(), values(&out), values(&lse), values(&grad));
    let AttentionInputs { q, k, v, .. } = inputs;
    [narrow(&dq, &q.tensor), narrow(&dk, &k.tensor), narrow(&dv, &v.tensor)]
}

/// The operands in f32.
struct Wide<'a, E: TchElement> {
    inputs: &'a AttentionInputs<LibTorch<E>>,
    operands: [Tensor; 3],
}

impl<'a, E: TchElement> Wide<'a, E> {
    fn new(inputs: &'a AttentionInputs<LibTorch<E>>) -> Self {
        let operands = [&inputs.q, &inputs.k, &inputs.v].map(|t| in_order(&t.tensor));
        Self { inputs, operands }
    }

    fn call(&self) -> attention::Call<'_> {
        let [q, k, v] = self.operands.each_ref();
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

fn in_order(tensor: &Tensor) -> Tensor {
    wide(tensor).contiguous()
}

/// In the shape and type of `like`.
fn narrow(values: &[f32], like: &Tensor) -> TchTensor {
    TchTensor::new(Tensor::from_slice(values).view(like.size().as_slice()).to_kind(like.kind()))
}
