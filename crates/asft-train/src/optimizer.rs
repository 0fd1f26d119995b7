//! AdamW (arXiv 1711.05101) with its state keyed by parameter path.

use std::collections::BTreeMap;

use asft_model::{
    Llama, LlamaBackend, TrainBackend,
    ops::{AdamWState, AdamWStep},
    parameters,
};

use crate::{config::OptimizerSettings, gradients::Gradients};

/// The optimizer.
#[derive(Debug)]
pub struct AdamW<B: LlamaBackend> {
    settings: OptimizerSettings,
    seed: u64,
    steps: usize,
    moments: BTreeMap<String, AdamWState<B>>,
}

impl<B: LlamaBackend> AdamW<B> {
    /// An optimizer that has made no step; `seed` decides how what is kept in bf16 is rounded.
    pub fn new(settings: OptimizerSettings, seed: u64) -> Self {
        Self::resumed(settings, seed, 0, BTreeMap::new())
    }

    /// An optimizer as a checkpoint left it after `steps`.
    pub fn resumed(
        settings: OptimizerSettings,
        seed: u64,
        steps: usize,
        moments: BTreeMap<String, AdamWState<B>>,
    ) -> Self {
        Self { settings, seed, steps, moments }
    }

    /// Moments by parameter path.
    pub fn moments(&self) -> &BTreeMap<String, AdamWState<B>> {
        &self.moments
    }

    /// Counts a step, whose gradients [`Self::apply`] is to be given, each once.
    pub fn begin_step(&mut self) {
        self.steps += 1;
    }

    /// Updates what has a gradient, at `rate` with gradients scaled by `scale`; consumes them as it goes.
    ///
    /// Norms do not decay; parameters without a gradient, such as frozen ones, are left alone.
    pub fn apply<A: TrainBackend<InnerBackend = B>>(
        &mut self,
        model: Llama<A>,
        mut gradients: Gradients<B>,
        rate: f64,
        scale: f64,
    ) -> Llama<A> {
        let OptimizerSettings { betas, eps, weight_decay, state_dtype, .. } = self.settings;
        let corrections = betas.map(|beta| 1.0 - beta.powi(self.steps as i32));
        parameters::update(model, |path, value| {
            let Some(gradient) = gradients.take(path) else { return value };
            let decay = if path.ends_with("norm.weight") { 0.0 } else { weight_decay };
            let rounding_seed = seed_of_chance(self.seed, self.steps, path);
            let step = AdamWStep {
                betas,
                corrections,
                eps,
                rate,
                decay,
                scale,
                state_type: state_dtype,
                rounding_seed,
            };
            let (updated, state) = B::adamw(value, gradient, self.moments.remove(path), step);
            self.moments.insert(path.to_owned(), state);
            updated
        })
    }
}

/// FNV-1a of a run's seed, the step and a name, such as a parameter's path: no two give the same, and a resumed run
/// goes on with what it would have had.
pub(crate) fn seed_of_chance(seed: u64, step: usize, name: &str) -> u64 {
    let numbers = [seed.to_le_bytes(), (step as u64).to_le_bytes()];
    numbers.as_flattened().iter().copied().chain(name.bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_parameter_of_every_step_has_a_seed_of_its_own() {
        let mut seeds = BTreeSet::new();
        for seed in [0, 1, 42] {
            for step in 1..200 {
                for path in ["model.norm.weight", "model.layers.0.mlp.up_proj.weight", "lm_head.weight"] {
                    assert!(seeds.insert(seed_of_chance(seed, step, path)), "{seed}, {step}, {path}");
                }
            }
        }
        assert_eq!(seed_of_chance(42, 7, "lm_head.weight"), seed_of_chance(42, 7, "lm_head.weight"));
    }
}
