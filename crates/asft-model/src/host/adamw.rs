//! See [`crate::LlamaBackend::adamw`].

use rayon::prelude::*;

use super::{Number, TASK, simd};
use crate::ops::{AdamWStep, rounding::STRETCH};

/// One pass over a parameter and its two moments. What is kept in bf16 is rounded by chance.
pub fn step<V: Number, S: Number>(
    value: &mut [V],
    first: &mut [S],
    second: &mut [S],
    gradient: &[f32],
    step: AdamWStep,
) {
    let (update, seeds) = (Update::new(step), step.seeds());
    value
        .par_chunks_mut(TASK)
        .zip(first.par_chunks_mut(TASK))
        .zip(second.par_chunks_mut(TASK))
        .zip(gradient.par_chunks(TASK))
        .enumerate()
        .for_each(|(task, (((value, first), second), gradient))| {
            simd::vectorized(
                #[inline(always)]
                || {
                    let moments = first.chunks_mut(STRETCH).zip(second.chunks_mut(STRETCH));
                    let stretches = value.chunks_mut(STRETCH).zip(moments).zip(gradient.chunks(STRETCH));
                    for (stretch, ((value, (first, second)), gradient)) in stretches.enumerate() {
                        let place = task * TASK + stretch * STRETCH;
                        update.apply(value, first, second, gradient, seeds, place);
                    }
                },
            );
        });
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

    /// Updates at most [`STRETCH`] parameters, of which the first is the one at `place`.
    #[inline(always)]
    fn apply<V: Number, S: Number>(
        &self,
        value: &mut [V],
        first: &mut [S],
        second: &mut [S],
        gradient: &[f32],
        [value_seed, first_seed, second_seed]: [u64; 3],
        place: usize,
    ) {
        let value_chances = V::chances(value_seed, place);
        let [first_chances, second_chances] = [first_seed, second_seed].map(|seed| S::chances(seed, place));
        let length = gradient.len().min(STRETCH);
        let (value, first, second) = (&mut value[..length], &mut first[..length], &mut second[..length]);
        for i in 0..length {
            let g = gradient[i] * self.scale;
            let m = first[i].get() * self.keeps[0] + g * self.takes[0];
            let v = second[i].get() * self.keeps[1] + g * g * self.takes[1];
            let root = v.sqrt() / self.second_root + self.eps;
            let updated = value[i].get() * self.keep - m / root * self.step_size;
            first[i] = S::put_by_chance(m, first_chances[i]);
            second[i] = S::put_by_chance(v, second_chances[i]);
            value[i] = V::put_by_chance(updated, value_chances[i]);
        }
    }
}
