//! The CubeCL backends, CUDA and wgpu: every operation by its definition so far.

use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use crate::LlamaBackend;

impl<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement> LlamaBackend
    for CubeBackend<R, F, I, B>
{
}
