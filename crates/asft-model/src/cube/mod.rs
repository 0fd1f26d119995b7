//! What the CubeCL backends, CUDA and wgpu, do faster than tensor operations can.

mod adamw;
mod attention;
#[cfg(all(test, feature = "cuda"))]
mod source;
#[cfg(all(test, feature = "wgpu", feature = "flex"))]
mod tests;

use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor};

use crate::{
    LlamaBackend,
    ops::{AdamWState, AdamWStep, AttentionInputs},
};

impl<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement> LlamaBackend
    for CubeBackend<R, F, I, B>
{
    fn packed_attention_forward(inputs: AttentionInputs<Self>) -> (CubeTensor<R>, CubeTensor<R>) {
        attention::forward(inputs)
    }

    fn packed_attention_backward(
        inputs: AttentionInputs<Self>,
        out: CubeTensor<R>,
        lse: CubeTensor<R>,
        grad: CubeTensor<R>,
    ) -> [CubeTensor<R>; 3] {
        attention::backward(inputs, out, lse, grad)
    }

    fn adamw(
        value: Tensor<Self, 1>,
        gradient: Tensor<Self, 1>,
        state: Option<AdamWState<Self>>,
        step: AdamWStep,
    ) -> (Tensor<Self, 1>, AdamWState<Self>) {
        adamw::step::<R, Self>(value, gradient, state, step)
    }
}

/// A tensor without values, its elements in order, where `like` lies.
fn new_tensor<R: CubeRuntime>(like: &CubeTensor<R>, shape: impl Into<Shape>, dtype: DType) -> CubeTensor<R> {
    let shape = shape.into();
    let handle = like.client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype)
}
