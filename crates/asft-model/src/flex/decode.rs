//! See [`crate::LlamaBackend::decode_attention`].

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use rayon::prelude::*;

use super::{Element, by_type, contiguous, from_values, values};
use crate::{
    host::{Number, simd},
    ops::KeyValues,
};

/// In place where nobody else holds `buffer`.
pub fn write_rows(buffer: FlexTensor, rows: FlexTensor, at: usize) -> FlexTensor {
    let [mut buffer, rows] = [buffer, rows].map(contiguous);
    let [_, heads, dim] = buffer.shape().dims();
    by_type!(buffer.dtype(), T => {
        let rows = values::<T>(&rows);
        buffer.storage_mut::<T>()[at * heads * dim..][..rows.len()].copy_from_slice(rows);
    });
    buffer
}

/// A task is a key head of a sequence with the query heads that share it.
pub fn attention(q: FlexTensor, caches: &[KeyValues<Flex>], scale: f64) -> FlexTensor {
    let [batch, heads, dim] = q.shape().dims();
    assert_eq!(batch, caches.len(), "queries against sequences");
    let q = contiguous(q);
    by_type!(q.dtype(), T => {
        from_values(<T as Number>::narrow(attend::<T>(&q, caches, scale)), [batch, heads, dim])
    })
}

/// The output in f32.
fn attend<T: Element>(q: &FlexTensor, caches: &[KeyValues<Flex>], scale: f64) -> Vec<f32> {
    let [batch, heads, dim] = q.shape().dims();
    let kept: Vec<[FlexTensor; 2]> =
        caches.iter().map(|cache| [cache.k.clone(), cache.v.clone()].map(contiguous)).collect();
    let kv_heads = caches.first().map_or(1, |cache| cache.k.shape()[1]);
    let group = heads / kv_heads;
    let mut out = vec![0.0; batch * heads * dim];
    out.par_chunks_mut(group * dim).zip(values::<T>(q).par_chunks(group * dim)).enumerate().for_each(
        |(task, (out, q))| {
            let (sequence, head) = (task / kv_heads, task % kv_heads);
            let length = caches[sequence].length;
            let [k, v] = &kept[sequence];
            let row = |buffer: &[T], token: usize| (token * kv_heads + head) * dim..buffer.len();
            simd::vectorized(
                #[inline(always)]
                || {
                    let (k, v) = (values::<T>(k), values::<T>(v));
                    let mut weights = vec![0.0; group * length];
                    for token in 0..length {
                        let key = &k[row(k, token)][..dim];
                        for (query, q) in q.chunks_exact(dim).enumerate() {
                            weights[query * length + token] = simd::dot(q, key) * scale as f32;
                        }
                    }
                    for weights in weights.chunks_exact_mut(length) {
                        let greatest = simd::max(weights);
                        let sum = simd::exp_in_place(weights, greatest);
                        simd::scale(weights, 1.0 / sum);
                    }
                    for token in 0..length {
                        let value = &v[row(v, token)][..dim];
                        for (query, out) in out.chunks_exact_mut(dim).enumerate() {
                            let weight = weights[query * length + token];
                            for (out, value) in out.iter_mut().zip(value) {
                                *out += weight * value.get();
                            }
                        }
                    }
                },
            );
        },
    );
    out
}
