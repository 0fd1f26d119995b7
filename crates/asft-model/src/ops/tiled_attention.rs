//! Attention made of tensor operations, a tile of queries at a time.
//!
//! This is the definition the faster operations are tested against. A tile is at most 256 queries
//! against the keys they can see at all, so memory grows with tokens × 256, and about half of the
//! causal square is never computed. Query heads that share a key head are stacked as rows of one product,
//! so keys and values are never repeated.

use std::ops::Range;

use burn::tensor::{
    Bool, DType, Tensor, TensorMetadata, TensorPrimitive, backend::Backend, ops::FloatTensor,
};

use super::AttentionInputs;
use crate::Span;

/// Queries of a tile.
const TILE: usize = 256;

/// Output in f32 and log-sum-exp; see [`super::LlamaBackend::packed_attention_forward`].
pub fn forward<B: Backend>(inputs: AttentionInputs<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let [q, k, v] = [inputs.q, inputs.k, inputs.v].map(to_f32::<B, 3>);
    let shape = Shape::of(&q, &k);
    let (mut outs, mut lses) = (vec![], vec![]);
    for span in inputs.layout.spans() {
        for tile in tiles(span) {
            let scores = tile.scores(&shape, &q, &k, inputs.scale);
            let max = scores.clone().max_dim(2);
            let weights = (scores - max.clone()).exp();
            let sum = weights.clone().sum_dim(2);
            let out = weights.matmul(tile.keys(&v)) / sum.clone();
            outs.push(shape.rows_from_groups(out, tile.queries.len()));
            lses.push(shape.rows_from_groups(max + sum.log(), tile.queries.len()).squeeze_dim::<2>(2));
        }
    }
    (from_f32(Tensor::cat(outs, 0), DType::F32), from_f32(Tensor::cat(lses, 0), DType::F32))
}

/// Gradients of q, k, v; see [`super::LlamaBackend::packed_attention_backward`]. Weights are recomputed as
/// `exp(scores - lse)`; with `p` the weights and `dp = dout vᵀ`, `dscores = p (dp - rowsum(dout out))`.
pub fn backward<B: Backend>(
    inputs: AttentionInputs<B>,
    out: FloatTensor<B>,
    lse: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    let dtype = inputs.q.dtype();
    let [q, k, v, out, grad] = [inputs.q, inputs.k, inputs.v, out, grad].map(to_f32::<B, 3>);
    let lse = to_f32::<B, 2>(lse).unsqueeze_dim::<3>(2);
    let shape = Shape::of(&q, &k);
    let delta = (grad.clone() * out).sum_dim(2);
    let mut dq = vec![];
    let mut dk = k.zeros_like();
    let mut dv = v.zeros_like();
    for span in inputs.layout.spans() {
        for tile in tiles(span) {
            let rows = |t: &Tensor<B, 3>| shape.groups_from_rows(tile.rows(t));
            let scores = tile.scores(&shape, &q, &k, inputs.scale);
            let weights = (scores - rows(&lse)).exp();
            let dout = rows(&grad);
            let dweights = dout.clone().matmul(tile.keys(&v).swap_dims(1, 2));
            let dscores = (dweights - rows(&delta)) * weights.clone() * inputs.scale;
            dq.push(shape.rows_from_groups(dscores.clone().matmul(tile.keys(&k)), tile.queries.len()));
            dk = tile.add_to_keys(dk, dscores.swap_dims(1, 2).matmul(rows(&q)));
            dv = tile.add_to_keys(dv, weights.swap_dims(1, 2).matmul(dout));
        }
    }
    [Tensor::cat(dq, 0), dk, dv].map(|gradient| from_f32(gradient, dtype))
}

/// A tile: its queries, and the stretches of the stream that hold the keys it can see.
struct Tile {
    queries: Range<usize>,
    prefix: Range<usize>,
    own: Range<usize>,
}

fn tiles(span: &Span) -> impl Iterator<Item = Tile> {
    let Span { prefix, own } = span.clone();
    own.clone().step_by(TILE).map(move |start| {
        let end = own.end.min(start + TILE);
        Tile { queries: start..end, prefix: prefix.clone(), own: own.start..end }
    })
}

impl Tile {
    fn rows<B: Backend>(&self, t: &Tensor<B, 3>) -> Tensor<B, 3> {
        t.clone().slice([self.queries.clone()])
    }

    /// Visible rows of `t` `[tokens, kv_heads, head_dim]` as `[kv_heads, keys, head_dim]`.
    fn keys<B: Backend>(&self, t: &Tensor<B, 3>) -> Tensor<B, 3> {
        let own = t.clone().slice([self.own.clone()]);
        let rows = match self.prefix.is_empty() {
            true => own,
            false => Tensor::cat(vec![t.clone().slice([self.prefix.clone()]), own], 0),
        };
        rows.swap_dims(0, 1)
    }

    /// Adds `[kv_heads, keys, head_dim]` to the visible rows of `[tokens, kv_heads, head_dim]`.
    fn add_to_keys<B: Backend>(&self, mut total: Tensor<B, 3>, part: Tensor<B, 3>) -> Tensor<B, 3> {
        let part = part.swap_dims(0, 1);
        let prefix = self.prefix.len();
        let stretches = [(self.prefix.clone(), 0..prefix), (self.own.clone(), prefix..part.dims()[0])];
        for (stream, keys) in stretches {
            if !stream.is_empty() {
                let sum = total.clone().slice([stream.clone()]) + part.clone().slice([keys]);
                total = total.slice_assign([stream], sum);
            }
        }
        total
    }

    /// Scaled scores `[kv_heads, group * queries, keys]`, hidden ones at -1e30.
    fn scores<B: Backend>(
        &self,
        shape: &Shape,
        q: &Tensor<B, 3>,
        k: &Tensor<B, 3>,
        scale: f64,
    ) -> Tensor<B, 3> {
        // The product is scaled, not q: burn-tch takes a view with swapped dimensions for a tensor of its own and would
        // scale the operand in place.
        let q = shape.groups_from_rows(self.rows(q));
        let scores = q.matmul(self.keys(k).swap_dims(1, 2)).mul_scalar(scale);
        let [kv_heads, rows, keys] = scores.dims();
        let queries = self.queries.len();
        let hidden_from = self.prefix.len() + self.queries.start - self.own.start;
        // Hidden are the keys right of the diagonal that starts there.
        let hidden = Tensor::<B, 2, Bool>::tril_mask([queries, keys], hidden_from as i64, &scores.device());
        let all = [kv_heads * shape.group, queries, keys];
        scores
            .reshape(all)
            .mask_fill(hidden.unsqueeze::<3>().expand(all), -1e30)
            .reshape([kv_heads, rows, keys])
    }
}

/// Head counts, and the two layouts of rows: by token, and by key head with its query heads stacked.
struct Shape {
    kv_heads: usize,
    group: usize,
}

impl Shape {
    fn of<B: Backend>(q: &Tensor<B, 3>, k: &Tensor<B, 3>) -> Self {
        let ([_, heads, _], [_, kv_heads, _]) = (q.dims(), k.dims());
        Self { kv_heads, group: heads / kv_heads }
    }

    /// `[rows, heads, width]` to `[kv_heads, group * rows, width]`.
    fn groups_from_rows<B: Backend>(&self, t: Tensor<B, 3>) -> Tensor<B, 3> {
        let [rows, _, width] = t.dims();
        t.swap_dims(0, 1).reshape([self.kv_heads, self.group * rows, width])
    }

    /// The inverse of [`Self::groups_from_rows`].
    fn rows_from_groups<B: Backend>(&self, t: Tensor<B, 3>, rows: usize) -> Tensor<B, 3> {
        let width = t.dims()[2];
        t.reshape([self.kv_heads * self.group, rows, width]).swap_dims(0, 1)
    }
}

fn to_f32<B: Backend, const D: usize>(t: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::<B, D>::from_primitive(TensorPrimitive::Float(t)).cast(DType::F32)
}

fn from_f32<B: Backend, const D: usize>(t: Tensor<B, D>, dtype: DType) -> FloatTensor<B> {
    t.cast(dtype).into_primitive().tensor()
}
