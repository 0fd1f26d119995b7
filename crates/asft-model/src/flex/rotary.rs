//! See [`crate::LlamaBackend::rotary`].

use burn::{backend::flex::FlexTensor, tensor::TensorMetadata};
use rayon::prelude::*;

use super::{contiguous, simd, values};

/// In place where nobody else holds `x`.
pub fn forward(x: FlexTensor, cos: FlexTensor, sin: FlexTensor) -> FlexTensor {
    let [_, heads, dim] = x.shape().dims();
    let [mut x, cos, sin] = [x, cos, sin].map(contiguous);
    let half = dim / 2;
    let angles = values(&cos).par_chunks(half).zip(values(&sin).par_chunks(half));
    x.storage_mut::<f32>().par_chunks_mut(heads * dim).zip(angles).with_min_len(16).for_each(
        |(row, (cos, sin))| {
            simd::vectorized(
                #[inline(always)]
                || {
                    for head in row.chunks_exact_mut(dim) {
                        let (first, second) = head.split_at_mut(half);
                        for plane in 0..half {
                            let (a, b) = (first[plane], second[plane]);
                            first[plane] = a * cos[plane] - b * sin[plane];
                            second[plane] = b * cos[plane] + a * sin[plane];
                        }
                    }
                },
            );
        },
    );
    x
}
