//! See [`crate::LlamaBackend::rms_norm`].

use rayon::prelude::*;

use super::{Number, simd};

/// Rows of a task; also the rows whose gradients of the weight are summed before they meet the others'.
const ROWS: usize = 64;

/// The normed rows of `x`, each as long as `weight`, into `out`.
pub fn forward<T: Number>(x: &[T], weight: &[T], eps: f64, out: &mut [T]) {
    let width = weight.len();
    let task = ROWS * width;
    out.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(out, x)| {
        simd::vectorized(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let root = reciprocal_root(x, eps);
                    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                        *out = T::put(x.get() * root * weight.get());
                    }
                }
            },
        );
    });
}

/// The gradient of `x` takes the place of the incoming one; that of the weight is returned.
pub fn backward<T: Number>(x: &[T], weight: &[T], eps: f64, grad: &mut [T]) -> Vec<f32> {
    let width = weight.len();
    let task = ROWS * width;
    let parts: Vec<Vec<f32>> = grad
        .par_chunks_mut(task)
        .zip(x.par_chunks(task))
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
                            let (g, x) = (grad[i].get(), x[i].get());
                            by_weight[i] += g * x * root;
                            grad[i] = T::put(g * weight[i].get() * root - x * pull);
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
    by_weight
}

#[inline(always)]
fn reciprocal_root<T: Number>(x: &[T], eps: f64) -> f32 {
    1.0 / (simd::dot(x, x) / x.len() as f32 + eps as f32).sqrt()
}
