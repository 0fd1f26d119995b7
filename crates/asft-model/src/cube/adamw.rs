//! One kernel for a step of AdamW: weights and moments change where they lie, and nothing waits for the device.

use burn::tensor::{DType, Tensor, backend::Backend};
use burn_cubecl::{CubeRuntime, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{calculate_cube_count_elemwise, prelude::*};
use half::bf16;

use super::new_tensor;
use crate::ops::{self, AdamWState, AdamWStep};

/// See [`crate::LlamaBackend::adamw`]. The definition takes what is neither f32 nor bf16.
pub fn step<R: CubeRuntime, B: Backend<FloatTensorPrimitive = CubeTensor<R>>>(
    value: Tensor<B, 1>,
    gradient: Tensor<B, 1>,
    state: Option<AdamWState<B>>,
    step: AdamWStep,
) -> (Tensor<B, 1>, AdamWState<B>) {
    let state_type = DType::from(step.state_type.dtype());
    let of_state_type = |tensor: &Tensor<_, 1>| tensor.dtype() == state_type;
    let kept = state.as_ref().is_none_or(|state| of_state_type(&state.first) && of_state_type(&state.second));
    let launch = match (value.dtype(), state_type) {
        _ if gradient.dtype() != DType::F32 || !kept => None,
        (DType::F32, DType::F32) => Some(launch::<R, f32, f32> as Launch<R>),
        (DType::F32, DType::BF16) => Some(launch::<R, f32, bf16> as Launch<R>),
        (DType::BF16, DType::F32) => Some(launch::<R, bf16, f32> as Launch<R>),
        (DType::BF16, DType::BF16) => Some(launch::<R, bf16, bf16> as Launch<R>),
        _ => None,
    };
    let Some(launch) = launch else { return ops::adamw::step(value, gradient, state, step) };
    let [value, gradient]: [CubeTensor<R>; 2] = [value, gradient].map(ops::primitive);
    let moments = state.map(|state| [state.first, state.second].map(ops::primitive));
    let fresh = moments.is_none();
    let moments = moments.map_or_else(
        || [(); 2].map(|()| new_tensor(&value, value.meta.shape().clone(), state_type)),
        |moments| moments.map(writable),
    );
    let (value, [first, second]) = (writable(value), moments);
    if value.meta.num_elements() > 0 {
        launch([&value, &gradient, &first, &second].map(CubeTensor::clone), step, fresh);
    }
    let [value, first, second] = [value, first, second].map(ops::tensor);
    (value, AdamWState { first, second })
}

type Launch<R> = fn([CubeTensor<R>; 4], AdamWStep, bool);

/// `tensor` in order, in a buffer that nothing else reads.
fn writable<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let tensor = into_contiguous(tensor);
    match tensor.can_mut() {
        true => tensor,
        false => tensor.copy(),
    }
}

fn launch<R: CubeRuntime, W: Float + CubeElement, M: Float + CubeElement>(
    [value, gradient, first, second]: [CubeTensor<R>; 4],
    step: AdamWStep,
    fresh: bool,
) {
    let client = value.client.clone();
    let narrow = |tensor: &CubeTensor<R>| tensor.dtype == DType::BF16;
    let variant = Variant { fresh, narrow_value: narrow(&value), narrow_moments: narrow(&first) };
    let units = CubeDim::new_1d(UNITS);
    let cubes = calculate_cube_count_elemwise(&client, value.meta.num_elements(), units);
    adamw_kernel::launch::<W, M, R>(
        &client,
        cubes,
        units,
        value.into_array_arg(),
        into_contiguous(gradient).into_array_arg(),
        first.into_array_arg(),
        second.into_array_arg(),
        numbers(&step),
        seeds(&step),
        variant,
    );
}

/// Units of a cube.
pub(super) const UNITS: u32 = 256;

/// What [`adamw_kernel`] is compiled for.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) struct Variant {
    /// The moments were 0 before; what lies in their buffers is not read.
    pub fresh: bool,
    /// Weights are bf16.
    pub narrow_value: bool,
    /// Moments are bf16.
    pub narrow_moments: bool,
}

/// What [`adamw_kernel`] needs to know of a step.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Numbers {
    /// `β₁`.
    pub keep_first: f32,
    /// `1 - β₁`.
    pub take_first: f32,
    /// `β₂`.
    pub keep_second: f32,
    /// `1 - β₂`.
    pub take_second: f32,
    /// `√(1 - β₂ᵗ)`.
    pub second_root: f32,
    /// Added to the root.
    pub eps: f32,
    /// `1 - η λ`.
    pub keep_value: f32,
    /// `η / (1 - β₁ᵗ)`.
    pub step_size: f32,
    /// Factor of the gradient.
    pub scale: f32,
}

/// Seeds of the chance by which the three results are rounded, the lower and the upper half of each.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Seeds {
    pub value_low: u32,
    pub value_high: u32,
    pub first_low: u32,
    pub first_high: u32,
    pub second_low: u32,
    pub second_high: u32,
}

fn numbers<R: CubeRuntime>(step: &AdamWStep) -> NumbersLaunch<R> {
    let AdamWStep { betas: [beta_1, beta_2], corrections, eps, rate, decay, scale, .. } = *step;
    NumbersLaunch::new(
        beta_1 as f32,
        (1.0 - beta_1) as f32,
        beta_2 as f32,
        (1.0 - beta_2) as f32,
        corrections[1].sqrt() as f32,
        eps as f32,
        (1.0 - rate * decay) as f32,
        (rate / corrections[0]) as f32,
        scale as f32,
    )
}

fn seeds<R: CubeRuntime>(step: &AdamWStep) -> SeedsLaunch<R> {
    let [value, first, second] = step.seeds().map(|seed| (seed as u32, (seed >> 32) as u32));
    SeedsLaunch::new(value.0, value.1, first.0, first.1, second.0, second.1)
}

/// The update as [`ops::adamw::step`] has it, one element a unit.
#[cube(launch)]
pub(super) fn adamw_kernel<W: Float, M: Float>(
    value: &mut Array<W>,
    gradient: &Array<f32>,
    first: &mut Array<M>,
    second: &mut Array<M>,
    numbers: &Numbers,
    seeds: &Seeds,
    #[comptime] variant: Variant,
) {
    let place = ABSOLUTE_POS;
    if place >= value.len() {
        terminate!();
    }
    let slope = gradient[place] * numbers.scale;
    let mut mean = slope * numbers.take_first;
    let mut square = slope * slope * numbers.take_second;
    if comptime!(!variant.fresh) {
        mean += f32::cast_from(first[place]) * numbers.keep_first;
        square += f32::cast_from(second[place]) * numbers.keep_second;
    }
    let root = square.sqrt() / numbers.second_root + numbers.eps;
    let updated = f32::cast_from(value[place]) * numbers.keep_value - mean / root * numbers.step_size;
    let index = place as u32;
    value[place] = stored::<W>(updated, index, seeds.value_low, seeds.value_high, variant.narrow_value);
    first[place] = stored::<M>(mean, index, seeds.first_low, seeds.first_high, variant.narrow_moments);
    second[place] = stored::<M>(square, index, seeds.second_low, seeds.second_high, variant.narrow_moments);
}

/// The value as it is kept, rounded by chance where that is `narrow`, bf16.
#[cube]
fn stored<E: Float>(value: f32, index: u32, low: u32, high: u32, #[comptime] narrow: bool) -> E {
    if comptime!(narrow) {
        E::cast_from(rounded(value, chance(index, low, high)))
    } else {
        E::cast_from(value)
    }
}

/// 16 bits that look random, the same for a seed and a place.
#[cube]
pub(super) fn chance(index: u32, low: u32, high: u32) -> u32 {
    mixed(mixed(index ^ low) + high) & 0xffffu32
}

/// A bijection of 32 bits without visible pattern, the "lowbias32" of C. Wellons (nullprogram.com, 2018).
#[cube]
fn mixed(bits: u32) -> u32 {
    let bits = (bits ^ (bits >> 16)) * 0x7feb_352du32;
    let bits = (bits ^ (bits >> 15)) * 0x846c_a68bu32;
    bits ^ (bits >> 16)
}

/// The value with `chance`, 16 bits, added below the last bit that bf16 keeps, and what is below that cut off. What is no number or not
/// finite stays so.
#[cube]
pub(super) fn rounded(value: f32, chance: u32) -> f32 {
    let bits = u32::reinterpret(value);
    let finite = (bits & 0x7f80_0000u32) != 0x7f80_0000u32;
    select(finite, f32::reinterpret((bits + chance) & 0xffff_0000u32), value)
}
