//! See [`crate::LlamaBackend::rms_norm`].

use burn::{backend::flex::FlexTensor, tensor::TensorMetadata};
use rayon::prelude::*;

use super::{contiguous, from_values, simd, values};

/// Rows of a task; also the rows whose gradients of the weight are summed before they meet the others'.
const ROWS: usize = 64;

pub fn forward(x: FlexTensor, weight: FlexTensor, eps: f64) -> FlexTensor {
    let [rows, width] = x.shape().dims();
    let [x, weight] = [x, weight].map(contiguous);
    let weight = values(&weight);
    let mut out = vec![0.0; rows * width];
    let task = ROWS * width;
    out.par_chunks_mut(task).zip(values(&x).par_chunks(task)).for_each(|(out, x)| {
        simd::vectorized(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let root = reciprocal_root(x, eps);
                    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                        *out = x * root * weight;
                    }
                }
            },
        );
    });
    from_values(out, [rows, width])
}

pub fn backward(x: FlexTensor, weight: FlexTensor, eps: f64, grad: FlexTensor) -> [FlexTensor; 2] {
    let [_, width] = x.shape().dims();
    let [x, weight, grad] = [x, weight, grad].map(contiguous);
    let weight = values(&weight);
    // The gradient of x takes the place of the incoming one.
    let mut by_x = grad;
    let task = ROWS * width;
    let parts: Vec<Vec<f32>> = by_x
        .storage_mut::<f32>()
        .par_chunks_mut(task)
        .zip(values(&x).par_chunks(task))
        .map(|(grad, x)| {
            let mut by_weight = vec![0.0; width];
            simd::vectorized(
                #[inline(always)]
                || {
                    for (grad, x) in grad.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                        let root = reciprocal_root(x, eps);
                        let mean = simd::dot_3(grad, x, weight) / width as f32;
                        let pull = root * root * root * mean;
                        for i in 0..width {
                            by_weight[i] += grad[i] * x[i] * root;
                            grad[i] = grad[i] * weight[i] * root - x[i] * pull;
                        }
                    }
                },
            );
            by_weight
        })
        .collect();
    let mut by_weight = vec![0.0; width];
    for part in parts {
        simd::add(&mut by_weight, &part);
    }
    [by_x, from_values(by_weight, [width])]
}

#[inline(always)]
fn reciprocal_root(x: &[f32], eps: f64) -> f32 {
    1.0 / (simd::dot(x, x) / x.len() as f32 + eps as f32).sqrt()
}
