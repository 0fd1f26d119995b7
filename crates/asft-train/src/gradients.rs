//! Gradients of an optimizer step, summed over its micro-batches in f32.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor, backend::Backend, s};

/// Flat gradients by parameter path.
#[derive(Debug)]
pub struct Gradients<B: Backend> {
    sums: BTreeMap<String, Tensor<B, 1>>,
}

impl<B: Backend> Default for Gradients<B> {
    fn default() -> Self {
        Self { sums: BTreeMap::new() }
    }
}

impl<B: Backend> Gradients<B> {
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
    ///
    /// Squares are summed in f32 over short rows, whose order of summation no backend changes from run to
    /// run, and the rows' sums in f64.
    pub fn norm(&self) -> f64 {
        self.sums.values().map(|gradient| sum_of_squares(gradient.clone())).sum::<f64>().sqrt()
    }
}

/// Elements of a row in [`sum_of_squares`].
const ROW: usize = 512;

fn sum_of_squares<B: Backend>(values: Tensor<B, 1>) -> f64 {
    let length = values.dims()[0];
    let rows = length / ROW;
    let whole = values.clone().slice(s![..rows * ROW]).reshape([rows, ROW]);
    let rest = values.slice(s![rows * ROW..]);
    let rest: f64 = host(rest).map(|value| value * value).sum();
    match rows {
        0 => rest,
        _ => host((whole.clone() * whole).sum_dim(1)).sum::<f64>() + rest,
    }
}

fn host<B: Backend, const D: usize>(values: Tensor<B, D>) -> impl Iterator<Item = f64> {
    values
        .into_data()
        .convert::<f32>()
        .into_vec::<f32>()
        .expect("converted to f32")
        .into_iter()
        .map(f64::from)
}
