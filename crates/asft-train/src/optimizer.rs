//! AdamW (arXiv 1711.05101) with its state keyed by parameter path.

use std::collections::BTreeMap;

use asft_model::{Llama, TrainBackend, parameters};
use burn::tensor::{Tensor, backend::Backend};

use crate::{config::OptimizerSettings, gradients::Gradients};

/// Moments of one parameter, flat, f32.
#[derive(Clone, Debug)]
pub struct Moments<B: Backend> {
    /// Running mean of gradients.
    pub first: Tensor<B, 1>,
    /// Running mean of squared gradients.
    pub second: Tensor<B, 1>,
}

/// The optimizer.
#[derive(Debug)]
pub struct AdamW<B: Backend> {
    settings: OptimizerSettings,
    steps: usize,
    moments: BTreeMap<String, Moments<B>>,
}

impl<B: Backend> AdamW<B> {
    /// An optimizer that has made no step.
    pub fn new(settings: OptimizerSettings) -> Self {
        Self { settings, steps: 0, moments: BTreeMap::new() }
    }

    /// An optimizer as a checkpoint left it.
    pub fn resumed(settings: OptimizerSettings, steps: usize, moments: BTreeMap<String, Moments<B>>) -> Self {
        Self { settings, steps, moments }
    }

    /// Moments by parameter path.
    pub fn moments(&self) -> &BTreeMap<String, Moments<B>> {
        &self.moments
    }

    /// One step at `rate` with gradients scaled by `scale`; consumes the gradients as it goes.
    ///
    /// `m ← β₁m + (1-β₁)g`, `v ← β₂v + (1-β₂)g²`, `w ← w - η λ w - η m̂ / (√v̂ + ε)` with m̂, v̂ divided by
    /// `1 - βᵗ`; λ is 0 for norms. Parameters without a gradient are left alone.
    pub fn step<A: TrainBackend<InnerBackend = B>>(
        &mut self,
        model: Llama<A>,
        mut gradients: Gradients<B>,
        rate: f64,
        scale: f64,
    ) -> Llama<A>
    where
        B: asft_model::LlamaBackend,
    {
        self.steps += 1;
        let OptimizerSettings { betas: [beta_1, beta_2], eps, weight_decay, .. } = self.settings;
        let correction = |beta: f64| 1.0 - beta.powi(self.steps as i32);
        let (step_size, second_root) = (rate / correction(beta_1), correction(beta_2).sqrt());
        parameters::update(model, |path, value| {
            let Some(gradient) = gradients.take(path) else { return value };
            let gradient = gradient.mul_scalar(scale);
            let fresh = gradient.clone().mul_scalar(1.0 - beta_1);
            let fresh_square = (gradient.clone() * gradient).mul_scalar(1.0 - beta_2);
            let Moments { first, second } = match self.moments.remove(path) {
                Some(Moments { first, second }) => Moments {
                    first: first.mul_scalar(beta_1) + fresh,
                    second: second.mul_scalar(beta_2) + fresh_square,
                },
                None => Moments { first: fresh, second: fresh_square },
            };
            let root = second.clone().sqrt().div_scalar(second_root).add_scalar(eps);
            let decay = if path.ends_with("norm.weight") { 0.0 } else { weight_decay };
            let updated = value.mul_scalar(1.0 - rate * decay) - (first.clone() / root).mul_scalar(step_size);
            self.moments.insert(path.to_owned(), Moments { first, second });
            updated
        })
    }
}
