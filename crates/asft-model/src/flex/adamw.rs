//! See [`crate::LlamaBackend::adamw`].

use burn::{backend::Flex, tensor::Tensor};
use rayon::prelude::*;

use super::{TASK, contiguous, simd, values};
use crate::ops::{AdamWState, AdamWStep, primitive, tensor};

/// Everything in one pass over the parameters; in place where nobody else holds them.
pub fn step(
    value: Tensor<Flex, 1>,
    gradient: Tensor<Flex, 1>,
    state: Option<AdamWState<Flex>>,
    step: AdamWStep,
) -> (Tensor<Flex, 1>, AdamWState<Flex>) {
    let AdamWStep { betas, corrections, eps, rate, decay, scale, .. } = step;
    let (step_size, second_root) = ((rate / corrections[0]) as f32, corrections[1].sqrt() as f32);
    let [keep_1, keep_2] = betas.map(|beta| beta as f32);
    let [take_1, take_2] = betas.map(|beta| (1.0 - beta) as f32);
    let (eps, keep, scale) = (eps as f32, (1.0 - rate * decay) as f32, scale as f32);
    let AdamWState { first, second } =
        state.unwrap_or_else(|| AdamWState { first: value.zeros_like(), second: value.zeros_like() });
    let [mut value, gradient, mut first, mut second] =
        [value, gradient, first, second].map(|t| contiguous(primitive(t)));
    value
        .storage_mut::<f32>()
        .par_chunks_mut(TASK)
        .zip(first.storage_mut::<f32>().par_chunks_mut(TASK))
        .zip(second.storage_mut::<f32>().par_chunks_mut(TASK))
        .zip(values(&gradient).par_chunks(TASK))
        .for_each(|(((value, first), second), gradient)| {
            simd::vectorized(
                #[inline(always)]
                || {
                    for (i, gradient) in gradient.iter().enumerate() {
                        let g = gradient * scale;
                        first[i] = first[i] * keep_1 + g * take_1;
                        second[i] = second[i] * keep_2 + g * g * take_2;
                        let root = second[i].sqrt() / second_root + eps;
                        value[i] = value[i] * keep - first[i] / root * step_size;
                    }
                },
            );
        });
    (tensor(value), AdamWState { first: tensor(first), second: tensor(second) })
}
