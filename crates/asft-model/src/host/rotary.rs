//! See [`crate::LlamaBackend::rotary`].

use rayon::prelude::*;

use super::{Number, simd};

/// Turns `x` `[tokens, heads, dim]`, `row` numbers a token, by the cosines and sines `[tokens, dim / 2]` in place.
pub fn rotate<T: Number>(x: &mut [T], row: usize, dim: usize, cos: &[f32], sin: &[f32]) {
    let half = dim / 2;
    let angles = cos.par_chunks(half).zip(sin.par_chunks(half));
    x.par_chunks_mut(row).zip(angles).with_min_len(16).for_each(|(row, (cos, sin))| {
        simd::vectorized(
            #[inline(always)]
            || {
                for head in row.chunks_exact_mut(dim) {
                    let (first, second) = head.split_at_mut(half);
                    for plane in 0..half {
                        let (a, b) = (first[plane].get(), second[plane].get());
                        first[plane] = T::put(a * cos[plane] - b * sin[plane]);
                        second[plane] = T::put(b * cos[plane] + a * sin[plane]);
                    }
                }
            },
        );
    });
}
