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
use tch::Kind;

use super::host::{HostElement, own, values, values_mut};
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
        let zeros =
            || Tensor::zeros(gradient.dims(), (&gradient.device(), DType::from(step.state_type.dtype())));
        AdamWState { first: zeros(), second: zeros() }
    });
    let mut tensors = [value, first, second].map(|t| own(primitive(t)));
    let gradient = primitive(gradient).tensor.contiguous();
    let gradient = values::<f32>(&gradient);
    match tensors.each_ref().map(|tensor| tensor.tensor.kind()) {
        [Kind::BFloat16, Kind::BFloat16, _] => update::<bf16, bf16>(&mut tensors, gradient, step),
        [Kind::BFloat16, ..] => update::<bf16, f32>(&mut tensors, gradient, step),
        [_, Kind::BFloat16, _] => update::<f32, bf16>(&mut tensors, gradient, step),
        _ => update::<f32, f32>(&mut tensors, gradient, step),
    }
    let [value, first, second] = tensors.map(|t: TchTensor| tensor(t));
    (value, AdamWState { first, second })
}

/// The parameter, of type `V`, and its moments, of type `S`, a stretch at a time in f32.
fn update<V: Stored, S: Stored>(tensors: &mut [TchTensor; 3], gradient: &[f32], step: AdamWStep) {
    let update = Update::new(step);
    let [value_seed, first_seed, second_seed] = step.seeds();
    let [value, first, second] = tensors;
    values_mut::<V>(value)
        .par_chunks_mut(TASK)
        .zip(values_mut::<S>(first).par_chunks_mut(TASK))
        .zip(values_mut::<S>(second).par_chunks_mut(TASK))
        .zip(gradient.par_chunks(TASK))
        .enumerate()
        .for_each(|(task, (((value, first), second), gradient))| {
            let mut wide = [[0.0; TASK]; 3];
            let [wide_value, wide_first, wide_second] =
                wide.each_mut().map(|wide| &mut wide[..gradient.len()]);
            V::widen(value, wide_value);
            S::widen(first, wide_first);
            S::widen(second, wide_second);
            update.apply(wide_value, wide_first, wide_second, gradient);
            let place = task * TASK;
            V::store(wide_value, value, value_seed, place);
            S::store(wide_first, first, first_seed, place);
            S::store(wide_second, second, second_seed, place);
        });
}

/// A type in which numbers are kept between steps.
trait Stored: HostElement + Copy + Send + Sync {
    fn widen(stored: &[Self], wide: &mut [f32]);

    /// See [`round_by_chance`].
    fn store(wide: &[f32], stored: &mut [Self], seed: u64, first: usize);
}

impl Stored for f32 {
    fn widen(stored: &[f32], wide: &mut [f32]) {
        wide.copy_from_slice(stored);
    }

    fn store(wide: &[f32], stored: &mut [f32], _: u64, _: usize) {
        stored.copy_from_slice(wide);
    }
}

impl Stored for bf16 {
    fn widen(stored: &[bf16], wide: &mut [f32]) {
        wide.iter_mut().zip(stored).for_each(|(wide, stored)| *wide = stored.to_f32());
    }

    fn store(wide: &[f32], stored: &mut [bf16], seed: u64, first: usize) {
        round_by_chance(wide, stored, seed, first);
    }
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
