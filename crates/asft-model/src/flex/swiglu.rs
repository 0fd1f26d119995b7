//! See [`crate::LlamaBackend::swiglu`].

use burn::{backend::flex::FlexTensor, tensor::TensorMetadata};
use rayon::prelude::*;

use super::{TASK, contiguous, from_values, simd, values};

pub fn forward(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
    let shape = gate.shape();
    let [gate, up] = [gate, up].map(contiguous);
    let mut out = vec![0.0; values(&gate).len()];
    let inputs = values(&gate).par_chunks(TASK).zip(values(&up).par_chunks(TASK));
    out.par_chunks_mut(TASK).zip(inputs).for_each(|(out, (gate, up))| {
        simd::vectorized(
            #[inline(always)]
            || {
                for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
                    *out = gate * simd::sigmoid(gate) * up;
                }
            },
        );
    });
    from_values(out, shape)
}

pub fn backward(gate: FlexTensor, up: FlexTensor, grad: FlexTensor) -> [FlexTensor; 2] {
    let [gate, up, grad] = [gate, up, grad].map(contiguous);
    // The gradients take the places of gate and up, which are copied only where somebody else holds them.
    let (mut by_gate, mut by_up) = (gate, up);
    let gate = by_gate.storage_mut::<f32>().par_chunks_mut(TASK);
    let up = by_up.storage_mut::<f32>().par_chunks_mut(TASK);
    gate.zip(up).zip(values(&grad).par_chunks(TASK)).for_each(|((gate, up), grad)| {
        simd::vectorized(
            #[inline(always)]
            || {
                for ((gate, up), &grad) in gate.iter_mut().zip(up).zip(grad) {
                    let (x, s) = (*gate, simd::sigmoid(*gate));
                    *gate = grad * *up * s * (1.0 + x * (1.0 - s));
                    *up = grad * x * s;
                }
            },
        );
    });
    [by_gate, by_up]
}
