//! See [`crate::LlamaBackend::label_log_probs`].

use burn::{backend::flex::FlexTensor, tensor::TensorMetadata};
use rayon::prelude::*;

use super::{contiguous, from_values, simd, values};

pub fn forward(logits: FlexTensor, labels: FlexTensor) -> FlexTensor {
    let [rows, vocab] = logits.shape().dims();
    let (logits, labels) = (contiguous(logits), labels.to_contiguous());
    let rows_and_labels = values(&logits).par_chunks(vocab).zip(&labels.storage::<i32>()[..rows]);
    let log_prob = |(row, &label): (&[f32], &i32)| {
        simd::vectorized(
            #[inline(always)]
            || row[label as usize] - log_sum_exp(row),
        )
    };
    from_values(rows_and_labels.map(log_prob).collect(), [rows])
}

/// The gradient takes the place of the logits where nobody else holds them.
pub fn forward_and_gradient(
    logits: FlexTensor,
    labels: FlexTensor,
    coefficients: FlexTensor,
) -> (FlexTensor, FlexTensor) {
    let [rows, vocab] = logits.shape().dims();
    let (mut logits, coefficients, labels) =
        (contiguous(logits), contiguous(coefficients), labels.to_contiguous());
    let per_row = labels.storage::<i32>()[..rows].par_iter().zip(values(&coefficients));
    let log_probs = logits
        .storage_mut::<f32>()
        .par_chunks_mut(vocab)
        .zip(per_row)
        .map(|(row, (&label, &coefficient))| {
            simd::vectorized(
                #[inline(always)]
                || {
                    let lse = log_sum_exp(row);
                    let log_prob = row[label as usize] - lse;
                    for value in row.iter_mut() {
                        *value = simd::exp(*value - lse) * -coefficient;
                    }
                    row[label as usize] += coefficient;
                    log_prob
                },
            )
        })
        .collect();
    (from_values(log_probs, [rows]), logits)
}

#[inline(always)]
fn log_sum_exp(row: &[f32]) -> f32 {
    let highest = simd::max(row);
    highest + simd::sum_exp(row, highest).ln()
}
