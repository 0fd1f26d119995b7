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
    steps: usize,
    moments: BTreeMap<String, AdamWState<B>>,
}

impl<B: LlamaBackend> AdamW<B> {
    /// An optimizer that has made no step.
    pub fn new(settings: OptimizerSettings) -> Self {
        Self { settings, steps: 0, moments: BTreeMap::new() }
    }

    /// An optimizer as a checkpoint left it.
    pub fn resumed(settings: OptimizerSettings, steps: usize, moments: BTreeMap<String, AdamWState<B>>) -> Self {
        Self { settings, steps, moments }
    }

    /// Moments by parameter path.
    pub fn moments(&self) -> &BTreeMap<String, AdamWState<B>> {
        &self.moments
    }

    /// One step at `rate` with gradients scaled by `scale`; consumes the gradients as it goes.
    ///
    /// Norms do not decay; parameters without a gradient are left alone.
    pub fn step<A: TrainBackend<InnerBackend = B>>(
        &mut self,
        model: Llama<A>,
        mut gradients: Gradients<B>,
        rate: f64,
        scale: f64,
    ) -> Llama<A> {
        self.steps += 1;
        let OptimizerSettings { betas, eps, weight_decay, .. } = self.settings;
        let corrections = betas.map(|beta| 1.0 - beta.powi(self.steps as i32));
        parameters::update(model, |path, value| {
            let Some(gradient) = gradients.take(path) else { return value };
            let decay = if path.ends_with("norm.weight") { 0.0 } else { weight_decay };
            let step = AdamWStep { betas, corrections, eps, rate, decay, scale };
            let (updated, state) = B::adamw(value, gradient, self.moments.remove(path), step);
            self.moments.insert(path.to_owned(), state);
            updated
        })
    }
}
