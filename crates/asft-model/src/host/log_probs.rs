//! See [`crate::LlamaBackend::label_log_probs`].

use rayon::prelude::*;

use super::{Number, simd};

/// Log-prob of each row's label, with a row of logits a label.
pub fn forward<T: Number>(logits: &[T], labels: &[usize]) -> Vec<f32> {
    let log_prob = |(row, &label): (&[T], &usize)| {
        simd::vectorized(
            #[inline(always)]
            || row[label].get() - log_sum_exp(row),
        )
    };
    rows_of(logits.len(), labels)
        .map_or(vec![], |vocab| logits.par_chunks(vocab).zip(labels).map(log_prob).collect())
}

/// The same; the gradient of the sum of coefficients times log-probs takes the place of the logits.
pub fn forward_and_gradient<T: Number>(logits: &mut [T], labels: &[usize], coefficients: &[f32]) -> Vec<f32> {
    let Some(vocab) = rows_of(logits.len(), labels) else { return vec![] };
    let per_row = labels.par_iter().zip(coefficients);
    let gradient = |(row, (&label, &coefficient)): (&mut [T], (&usize, &f32))| {
        simd::vectorized(
            #[inline(always)]
            || {
                let lse = log_sum_exp(row);
                let log_prob = row[label].get() - lse;
                for value in row.iter_mut() {
                    *value = T::put(simd::exp(value.get() - lse) * -coefficient);
                }
                row[label] = T::put(simd::exp(log_prob) * -coefficient + coefficient);
                log_prob
            },
        )
    };
    logits.par_chunks_mut(vocab).zip(per_row).map(gradient).collect()
}

/// Logits of a row, if there is any.
fn rows_of(logits: usize, labels: &[usize]) -> Option<usize> {
    (logits > 0).then(|| logits / labels.len())
}

#[inline(always)]
fn log_sum_exp<T: Number>(row: &[T]) -> f32 {
    let highest = simd::max(row);
    highest + simd::sum_exp(row, highest).ln()
}
