//! What the CubeCL backends, CUDA and wgpu, do better than by tensor operations.

mod adamw;
#[cfg(all(test, feature = "wgpu"))]
mod tests;

use burn::tensor::Tensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use crate::{
    LlamaBackend,
    ops::{AdamWState, AdamWStep},
};

impl<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement> LlamaBackend
    for CubeBackend<R, F, I, B>
{
    fn adamw(
        value: Tensor<Self, 1>,
        gradient: Tensor<Self, 1>,
        state: Option<AdamWState<Self>>,
        step: AdamWStep,
    ) -> (Tensor<Self, 1>, AdamWState<Self>) {
        adamw::step(value, gradient, state, step)
    }
}
