//! See [`crate::LlamaBackend::swiglu`].

use rayon::prelude::*;

use super::{Number, TASK, simd};

/// `silu(gate) * up` into `out`.
pub fn forward<T: Number>(gate: &[T], up: &[T], out: &mut [T]) {
    let inputs = gate.par_chunks(TASK).zip(up.par_chunks(TASK));
    out.par_chunks_mut(TASK).zip(inputs).for_each(|(out, (gate, up))| {
        simd::vectorized(
            #[inline(always)]
            || {
                for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                    let gate = gate.get();
                    *out = T::put(gate * simd::sigmoid(gate) * up.get());
                }
            },
        );
    });
}

/// The gradients take the places of gate and up.
pub fn backward<T: Number>(gate: &mut [T], up: &mut [T], grad: &[T]) {
    let gate = gate.par_chunks_mut(TASK);
    gate.zip(up.par_chunks_mut(TASK)).zip(grad.par_chunks(TASK)).for_each(|((gate, up), grad)| {
        simd::vectorized(
            #[inline(always)]
            || {
                for ((gate, up), grad) in gate.iter_mut().zip(up).zip(grad) {
                    let (x, y, grad) = (gate.get(), up.get(), grad.get());
                    let s = simd::sigmoid(x);
                    *gate = T::put(grad * y * s * (1.0 + x * (1.0 - s)));
                    *up = T::put(grad * x * s);
                }
            },
        );
    });
}
