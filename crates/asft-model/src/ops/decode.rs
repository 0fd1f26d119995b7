//! Attention of the newest tokens over keys and values that are kept.

use burn::tensor::{DType, Tensor, TensorData, activation::softmax, backend::Backend, ops::FloatTensor};

use super::{primitive, tensor};

/// Keys and values of the tokens of one sequence.
#[derive(Clone, Debug)]
pub struct KeyValues<B: Backend> {
    /// `[capacity, key_value_heads, head_dim]`, rotated.
    pub k: FloatTensor<B>,
    /// `[capacity, key_value_heads, head_dim]`.
    pub v: FloatTensor<B>,
    /// Tokens whose rows are filled, from the first.
    pub length: usize,
}

/// See [`super::LlamaBackend::write_rows`].
pub fn write_rows<B: Backend>(buffer: FloatTensor<B>, rows: FloatTensor<B>, at: usize) -> FloatTensor<B> {
    let (buffer, rows) = (tensor::<B, 3>(buffer), tensor::<B, 3>(rows));
    let [count, heads, dim] = rows.dims();
    primitive(buffer.slice_assign([at..at + count, 0..heads, 0..dim], rows))
}

/// See [`super::LlamaBackend::decode_attention`].
pub fn attention<B: Backend>(q: FloatTensor<B>, caches: &[KeyValues<B>], scale: f64) -> FloatTensor<B> {
    let q = tensor::<B, 3>(q);
    let [batch, heads, dim] = q.dims();
    assert_eq!(batch, caches.len(), "queries against sequences");
    let dtype = q.dtype();
    let out = caches.iter().enumerate().map(|(row, cache)| {
        // Key heads first: [key_value_heads, length, head_dim], and the queries that share one as its rows.
        let kept = |buffer: &FloatTensor<B>| {
            let buffer = tensor::<B, 3>(buffer.clone());
            buffer.narrow(0, 0, cache.length).cast(DType::F32).swap_dims(0, 1)
        };
        let (k, v) = (kept(&cache.k), kept(&cache.v));
        let kv_heads = k.dims()[0];
        let q = q.clone().narrow(0, row, 1).cast(DType::F32).reshape([kv_heads, heads / kv_heads, dim]);
        let weights = softmax(q.matmul(k.swap_dims(1, 2)) * scale, 2);
        weights.matmul(v).reshape([1, heads, dim])
    });
    primitive(Tensor::cat(out.collect(), 0).cast(dtype))
}

/// Room for `capacity` tokens, nothing of it filled.
pub fn empty<B: Backend>(shape: [usize; 3], dtype: DType, device: &B::Device) -> FloatTensor<B> {
    let zeros = TensorData::zeros::<f32, _>(shape);
    primitive(Tensor::<B, 3>::from_data(zeros, (device, dtype)))
}
