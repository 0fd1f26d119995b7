//! See [`crate::LlamaBackend::adamw`].

use burn::{
    backend::{
        LibTorch,
        libtorch::{TchElement, TchTensor},
    },
    tensor::{DType, Tensor},
};
use half::bf16;
use rayon::prelude::*;

use super::host::{own, values, values_mut};
use crate::ops::{AdamWState, AdamWStep, primitive, rounding::round_by_chance, tensor};

/// Elements of one task; a multiple of what [`round_by_chance`] draws for at a time, and within the cache.
const TASK: usize = 1 << 12;

/// Everything in one pass over the parameters; in place where nobody else holds them.
pub fn step<E: TchElement>(
    value: Tensor<LibTorch<E>, 1>,
    gradient: Tensor<LibTorch<E>, 1>,
    state: Option<AdamWState<LibTorch<E>>>,
    step: AdamWStep,
) -> (Tensor<LibTorch<E>, 1>, AdamWState<LibTorch<E>>) {
    let AdamWState { first, second } = state.unwrap_or_else(|| {
        let zeros = || Tensor::zeros(gradient.dims(), (&gradient.device(), DType::F32));
        AdamWState { first: zeros(), second: zeros() }
    });
    let [mut value, mut first, mut second] = [value, first, second].map(|t| own(primitive(t)));
    let gradient = primitive(gradient).tensor.contiguous();
    let update = Update::new(step);
    let moments = values_mut::<f32>(&mut first)
        .par_chunks_mut(TASK)
        .zip(values_mut::<f32>(&mut second).par_chunks_mut(TASK));
    let numbers = moments.zip(values::<f32>(&gradient).par_chunks(TASK)).enumerate();
    match value.tensor.kind() {
        tch::Kind::BFloat16 => {
            numbers.zip(values_mut::<bf16>(&mut value).par_chunks_mut(TASK)).for_each(
                |((task, ((first, second), gradient)), value)| {
                    let mut wide = [0.0; TASK];
                    let wide = &mut wide[..value.len()];
                    wide.iter_mut().zip(value.iter()).for_each(|(wide, value)| *wide = value.to_f32());
                    update.apply(wide, first, second, gradient);
                    round_by_chance(wide, value, step.rounding_seed, task * TASK);
                },
            );
        }
        _ => numbers.zip(values_mut::<f32>(&mut value).par_chunks_mut(TASK)).for_each(
            |((_, ((first, second), gradient)), value)| update.apply(value, first, second, gradient),
        ),
    }
    let [value, first, second] = [value, first, second].map(|t: TchTensor| tensor(t));
    (value, AdamWState { first, second })
}

/// Factors of a step in f32.
struct Update {
    keep: f32,
    scale: f32,
    keeps: [f32; 2],
    takes: [f32; 2],
    step_size: f32,
    second_root: f32,
    eps: f32,
}

impl Update {
    fn new(step: AdamWStep) -> Self {
        Self {
            keep: (1.0 - step.rate * step.decay) as f32,
            scale: step.scale as f32,
            keeps: step.betas.map(|beta| beta as f32),
            takes: step.betas.map(|beta| (1.0 - beta) as f32),
            step_size: (step.rate / step.corrections[0]) as f32,
            second_root: step.corrections[1].sqrt() as f32,
            eps: step.eps as f32,
        }
    }

    fn apply(&self, value: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32]) {
        let numbers = first.iter_mut().zip(second).zip(gradient);
        for (value, ((first, second), gradient)) in value.iter_mut().zip(numbers) {
            let g = gradient * self.scale;
            *first = *first * self.keeps[0] + g * self.takes[0];
            *second = *second * self.keeps[1] + g * g * self.takes[1];
            let root = second.sqrt() / self.second_root + self.eps;
            *value = *value * self.keep - *first / root * self.step_size;
        }
    }
}
