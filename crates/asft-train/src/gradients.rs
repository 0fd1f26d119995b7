//! Gradients of an optimizer step, summed over its micro-batches in f32.

use std::collections::BTreeMap;

use asft_model::LlamaBackend;
use burn::tensor::{DType, Tensor};

/// Flat gradients by parameter path.
#[derive(Debug)]
pub struct Gradients<B: LlamaBackend> {
    sums: BTreeMap<String, Tensor<B, 1>>,
}

impl<B: LlamaBackend> Default for Gradients<B> {
    fn default() -> Self {
        Self { sums: BTreeMap::new() }
    }
}

impl<B: LlamaBackend> Gradients<B> {
    /// Adds a micro-batch's gradient of one parameter.
    pub fn add(&mut self, path: &str, gradient: Tensor<B, 1>) {
        let gradient = gradient.cast(DType::F32);
        let sum = match self.sums.remove(path) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.sums.insert(path.to_owned(), sum);
    }

    /// Takes the sum of one parameter, to be put back by [`Self::set`] after something was added in place.
    pub fn take(&mut self, path: &str) -> Option<Tensor<B, 1>> {
        self.sums.remove(path)
    }

    /// Replaces the sum of one parameter.
    pub fn set(&mut self, path: &str, sum: Tensor<B, 1>) {
        self.sums.insert(path.to_owned(), sum);
    }

    /// Euclidean norm over all parameters.
    pub fn norm(&self) -> f64 {
        self.sums.values().map(|gradient| B::sum_of_squares(gradient.clone())).sum::<f64>().sqrt()
    }
}
