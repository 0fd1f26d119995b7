//! See [`crate::LlamaBackend::adamw`]: one kernel, so that parameters never leave the device and each number is read and
//! written once.

use burn::tensor::{DType, Tensor, TensorMetadata};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, kernel::into_contiguous,
    tensor::CubeTensor,
};
use cubecl::{calculate_cube_count_elemwise, prelude::*};

use crate::ops::{AdamWState, AdamWStep, primitive, tensor};

/// The update of [`crate::ops::adamw::step`]; `out` is rounded to bf16 by chance where `by_chance` is set, whatever its type.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel takes numbers one by one")]
fn update<T: Float>(
    value: &Array<T>,
    gradient: &Array<f32>,
    first: &mut Array<f32>,
    second: &mut Array<f32>,
    out: &mut Array<T>,
    beta_1: f32,
    beta_2: f32,
    keep: f32,
    step_size: f32,
    second_root: f32,
    eps: f32,
    scale: f32,
    seed_low: u32,
    seed_high: u32,
    #[comptime] by_chance: bool,
    #[define(T)] _dtype: StorageType,
) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let gradient = gradient[i] * scale;
        let m = beta_1 * first[i] + (1.0f32 - beta_1) * gradient;
        let v = beta_2 * second[i] + (1.0f32 - beta_2) * gradient * gradient;
        first[i] = m;
        second[i] = v;
        let root = v.sqrt() / second_root + eps;
        let updated = keep * f32::cast_from(value[i]) - step_size * (m / root);
        if by_chance {
            let chance = mixed(mixed(i as u32 ^ seed_low) ^ seed_high) & 0xffffu32;
            let bits = u32::reinterpret(updated);
            // Infinity and what is no number stay as they are.
            if bits & 0x7f80_0000u32 != 0x7f80_0000u32 {
                out[i] = T::cast_from(f32::reinterpret((bits + chance) & 0xffff_0000u32));
            } else {
                out[i] = T::cast_from(updated);
            }
        } else {
            out[i] = T::cast_from(updated);
        }
    }
}

/// A bijection of 32 bits that looks random: two rounds of shift and multiplication, by the multipliers of Wellons' search
/// ("lowbias32", 2018).
#[cube]
fn mixed(bits: u32) -> u32 {
    let bits = (bits ^ (bits >> 16u32)) * 0x7feb_352du32;
    let bits = (bits ^ (bits >> 15u32)) * 0x846c_a68bu32;
    bits ^ (bits >> 16u32)
}

pub fn step<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement>(
    value: Tensor<CubeBackend<R, F, I, B>, 1>,
    gradient: Tensor<CubeBackend<R, F, I, B>, 1>,
    state: Option<AdamWState<CubeBackend<R, F, I, B>>>,
    numbers: AdamWStep,
) -> (Tensor<CubeBackend<R, F, I, B>, 1>, AdamWState<CubeBackend<R, F, I, B>>) {
    let by_chance = value.dtype() == DType::BF16;
    step_rounded(value, gradient, state, numbers, by_chance)
}

/// [`step`], with rounding to bf16 apart from the type of `value`: a device without bf16 can show how it rounds.
pub fn step_rounded<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement>(
    value: Tensor<CubeBackend<R, F, I, B>, 1>,
    gradient: Tensor<CubeBackend<R, F, I, B>, 1>,
    state: Option<AdamWState<CubeBackend<R, F, I, B>>>,
    AdamWStep { betas, corrections, eps, rate, decay, scale, rounding_seed }: AdamWStep,
    by_chance: bool,
) -> (Tensor<CubeBackend<R, F, I, B>, 1>, AdamWState<CubeBackend<R, F, I, B>>) {
    assert_eq!(gradient.dtype(), DType::F32, "gradients are summed in f32");
    assert_eq!(value.dims(), gradient.dims(), "a gradient of another shape than its parameter");
    let AdamWState { first, second } =
        state.unwrap_or_else(|| AdamWState { first: gradient.zeros_like(), second: gradient.zeros_like() });
    let [value, gradient, first, second] =
        [value, gradient, first, second].map(|tensor| into_contiguous(primitive(tensor)));
    // Moments are written where they lie, so nobody else may hold them.
    let [first, second] = [first, second].map(|moment| if moment.can_mut() { moment } else { moment.copy() });
    let (client, length, dtype) = (value.client.clone(), value.meta.num_elements(), value.dtype);
    let out = CubeTensor::new_contiguous(
        client.clone(),
        value.device.clone(),
        value.shape(),
        client.empty(length * dtype.size()),
        dtype,
    );
    let dim = CubeDim::new(&client, length);
    update::launch::<R>(
        &client,
        calculate_cube_count_elemwise(&client, length, dim),
        dim,
        value.into_array_arg(),
        gradient.into_array_arg(),
        first.clone().into_array_arg(),
        second.clone().into_array_arg(),
        out.clone().into_array_arg(),
        betas[0] as f32,
        betas[1] as f32,
        (1.0 - rate * decay) as f32,
        (rate / corrections[0]) as f32,
        corrections[1].sqrt() as f32,
        eps as f32,
        scale as f32,
        rounding_seed as u32,
        (rounding_seed >> 32) as u32,
        by_chance,
        dtype.into(),
    );
    (tensor(out), AdamWState { first: tensor(first), second: tensor(second) })
}
