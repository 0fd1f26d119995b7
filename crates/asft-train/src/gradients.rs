//! Gradients of an optimizer step, summed over its micro-batches in f32.

use std::collections::BTreeMap;

use asft_model::LlamaBackend;
use burn::tensor::{Tensor, TensorData};

use crate::collective::{Collective, CollectiveError, Sums};

/// Values that are exchanged at a time, where several parameters have so many: small ones alone would cost more than they hold.
const TOGETHER: usize = 1 << 22;

/// Flat gradients by parameter path.
#[derive(Clone, Debug)]
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
        let sum = B::add_values(self.sums.remove(path), gradient);
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

    /// Takes out the sums of the parameters whose paths `belongs` names.
    pub fn split_off(&mut self, belongs: impl Fn(&str) -> bool) -> Self {
        let (taken, left) = std::mem::take(&mut self.sums).into_iter().partition(|(path, _)| belongs(path));
        self.sums = left;
        Self { sums: taken }
    }

    /// Sums with those of all ranks. `parameters` are the paths and lengths of all that is trained, in an order that is
    /// the same on every rank; a rank without pairs has no gradient of its own and adds none.
    pub fn all_reduce(
        &mut self,
        parameters: &[&(String, usize)],
        ranks: &dyn Collective,
        device: &B::Device,
    ) -> Result<(), CollectiveError> {
        parts(parameters).try_for_each(|part| self.send(part, ranks).receive(self, device))
    }

    /// Begins to sum with those of all ranks, as [`Self::all_reduce`] does.
    pub fn send_all<'a>(
        mut self,
        parameters: &[&(String, usize)],
        ranks: &'a dyn Collective,
    ) -> Vec<PartOnTheWay<'a>> {
        parts(parameters).map(|part| self.send(part, ranks)).collect()
    }

    /// Waits for what was begun.
    pub fn receive_all(parts: Vec<PartOnTheWay<'_>>, device: &B::Device) -> Result<Self, CollectiveError> {
        let mut gradients = Self::default();
        parts.into_iter().try_for_each(|part| part.receive(&mut gradients, device))?;
        Ok(gradients)
    }

    fn send<'a>(&mut self, part: &[&(String, usize)], ranks: &'a dyn Collective) -> PartOnTheWay<'a> {
        let mut values = Vec::with_capacity(part.iter().map(|(_, length)| length).sum());
        for (path, length) in part {
            match self.take(path) {
                Some(sum) => values.extend(sum.into_data().iter::<f32>()),
                None => values.resize(values.len() + length, 0.0),
            }
        }
        let parameters = part.iter().map(|&parameter| parameter.clone()).collect();
        PartOnTheWay { parameters, sums: ranks.all_reduce(values) }
    }

    /// Square of the Euclidean norm over all parameters.
    pub fn sum_of_squares(&self) -> f64 {
        self.sums.values().map(|gradient| B::sum_of_squares(gradient.clone())).sum()
    }
}

/// Sums of some parameters that are being made.
pub struct PartOnTheWay<'a> {
    parameters: Vec<(String, usize)>,
    sums: Sums<'a>,
}

impl PartOnTheWay<'_> {
    /// Waits for the sums and puts them into `gradients`.
    fn receive<B: LlamaBackend>(
        self,
        gradients: &mut Gradients<B>,
        device: &B::Device,
    ) -> Result<(), CollectiveError> {
        let values = (self.sums)()?;
        let mut values = values.as_slice();
        for (path, length) in self.parameters {
            let (own, after) = values.split_at(length);
            values = after;
            gradients.set(&path, Tensor::from_data(TensorData::new(own.to_vec(), [length]), device));
        }
        Ok(())
    }
}

/// Cuts a list of parameters into parts that are exchanged together.
fn parts<'a, 'b>(parameters: &'a [&'b (String, usize)]) -> impl Iterator<Item = &'a [&'b (String, usize)]> {
    let mut rest = parameters;
    std::iter::from_fn(move || {
        let mut together = 0;
        let fits = |(_, length): &&&(String, usize)| {
            let fits = together == 0 || together + length <= TOGETHER;
            together += length;
            fits
        };
        let (part, others) = rest.split_at(rest.iter().take_while(fits).count());
        rest = others;
        (!part.is_empty()).then_some(part)
    })
}
