//! Attention as batched products and LibTorch's fused softmax, a tile of queries at a time.
//!
//! A tile meets the keys it can see at all; only their last stretch, the tile itself, needs a mask. The backward
//! pass makes the tile's weights again. Query heads that share a key head are rows of one product, so keys and
//! values are never repeated. Scores and weights have the type of the operands; the softmax is f32 inside.
//!
//! LibTorch's own fused attention for CPUs takes more than twice as long (docs/log.md), and knows no prefix.

use std::ops::Range;

use burn::backend::{
    LibTorch,
    libtorch::{TchElement, TchTensor},
};
use tch::{Kind, Tensor};

use crate::{Span, ops::AttentionInputs};

/// Queries of a tile.
const TILE: usize = 256;

/// Attention's output; see [`crate::LlamaBackend::packed_attention_forward`].
pub fn forward<E: TchElement>(inputs: &AttentionInputs<LibTorch<E>>) -> TchTensor {
    let call = Call::new(inputs);
    let out = call.q.empty_like();
    for span in inputs.layout.spans() {
        let (keys, values) = (visible(call.k, span), visible(call.v, span));
        for tile in call.tiles(span) {
            let weights = tile.weights(&call, &tile.rows(&call, call.q), &keys);
            tile.set_rows(&call, &out, &weights.bmm(&tile.seen(&values)));
        }
    }
    TchTensor::new(out)
}

/// See [`crate::LlamaBackend::packed_attention_backward`]. With `p` the weights and `dp = dout vᵀ`:
/// `dscores = p (dp - rowsum(dp p))`.
pub fn backward<E: TchElement>(inputs: &AttentionInputs<LibTorch<E>>, grad: &Tensor) -> [TchTensor; 3] {
    let call = Call::new(inputs);
    let kind = call.q.kind();
    let dq = call.q.empty_like();
    // Keys gather from several tiles and spans.
    let [dk, dv] = [call.k, call.v].map(|t| Tensor::zeros(t.size(), (Kind::Float, t.device())));
    for span in inputs.layout.spans() {
        let (keys, values) = (visible(call.k, span), visible(call.v, span));
        let [by_keys, by_values] =
            [&keys, &values].map(|t| Tensor::zeros(t.size(), (Kind::Float, t.device())));
        for tile in call.tiles(span) {
            let (q, dout) = (tile.rows(&call, call.q), tile.rows(&call, grad));
            let weights = tile.weights(&call, &q, &keys);
            let by_weights = dout.bmm(&tile.seen(&values).transpose(1, 2));
            let by_scores = Tensor::internal_softmax_backward_data(&by_weights, &weights, -1, kind)
                .g_mul_scalar_(call.scale);
            tile.set_rows(&call, &dq, &by_scores.bmm(&tile.seen(&keys)));
            add(tile.seen(&by_keys), &by_scores.transpose(1, 2).bmm(&q));
            add(tile.seen(&by_values), &weights.transpose(1, 2).bmm(&dout));
        }
        for (sum, part) in [(&dk, by_keys), (&dv, by_values)] {
            let part = part.transpose(0, 1);
            let prefix = span.prefix.len() as i64;
            add(rows(sum, &span.prefix), &part.narrow(0, 0, prefix));
            add(rows(sum, &span.own), &part.narrow(0, prefix, span.own.len() as i64));
        }
    }
    [dq, dk.to_kind(kind), dv.to_kind(kind)].map(TchTensor::new)
}

/// Rows of `t` `[tokens, kv_heads, head_dim]` that a span sees, prefix first, as `[kv_heads, keys, head_dim]`.
fn visible(t: &Tensor, span: &Span) -> Tensor {
    let both = Tensor::cat(&[rows(t, &span.prefix), rows(t, &span.own)], 0);
    both.transpose(0, 1).contiguous()
}

fn rows(t: &Tensor, range: &Range<usize>) -> Tensor {
    t.narrow(0, range.start as i64, range.len() as i64)
}

/// Adds to what `view` shows of a tensor.
fn add(mut view: Tensor, other: &Tensor) {
    let _ = view.g_add_(other);
}

/// The operands and what all tiles share.
struct Call<'a> {
    q: &'a Tensor,
    k: &'a Tensor,
    v: &'a Tensor,
    kv_heads: i64,
    group: i64,
    scale: f64,
    /// Minus infinity where a query of a tile must not see a key of the tile.
    mask: Tensor,
}

impl<'a> Call<'a> {
    fn new<E: TchElement>(inputs: &'a AttentionInputs<LibTorch<E>>) -> Self {
        let [q, k, v] = [&inputs.q, &inputs.k, &inputs.v].map(|t| &t.tensor);
        let kv_heads = k.size()[1];
        let longest = inputs.layout.spans().iter().map(|span| span.own.len()).max().unwrap_or(0);
        let side = longest.min(TILE) as i64;
        let mask = Tensor::full([side, side], f64::NEG_INFINITY, (q.kind(), q.device())).triu(1);
        Self { q, k, v, kv_heads, group: q.size()[1] / kv_heads, scale: inputs.scale, mask }
    }

    fn tiles(&self, span: &Span) -> impl Iterator<Item = Tile> + use<> {
        let Span { prefix, own } = span.clone();
        own.clone().step_by(TILE).map(move |start| {
            let queries = start..own.end.min(start + TILE);
            let keys = prefix.len() + queries.end - own.start;
            Tile { queries, keys: keys as i64 }
        })
    }
}

/// Some queries of a span, and how many of the keys that the span sees they can see.
struct Tile {
    queries: Range<usize>,
    keys: i64,
}

impl Tile {
    fn length(&self) -> i64 {
        self.queries.len() as i64
    }

    /// The tile's rows of `[tokens, heads, head_dim]` as `[kv_heads, group * rows, head_dim]`.
    fn rows(&self, call: &Call, t: &Tensor) -> Tensor {
        let width = t.size()[2];
        self.by_group(call, t).reshape([call.kv_heads, call.group * self.length(), width])
    }

    /// Writes the tile's rows of `[tokens, heads, head_dim]`.
    fn set_rows(&self, call: &Call, t: &Tensor, values: &Tensor) {
        let mut rows = self.by_group(call, t);
        let size = rows.size();
        rows.copy_(&values.view(size.as_slice()));
    }

    /// The tile's rows of `[tokens, heads, head_dim]` as `[kv_heads, group, rows, head_dim]`, a view.
    fn by_group(&self, call: &Call, t: &Tensor) -> Tensor {
        let width = t.size()[2];
        rows(t, &self.queries).view([self.length(), call.kv_heads, call.group, width]).permute([1, 2, 0, 3])
    }

    /// The keys that the tile sees, of all that its span sees.
    fn seen(&self, keys: &Tensor) -> Tensor {
        keys.narrow(1, 0, self.keys)
    }

    /// Softmax of the scaled scores, `[kv_heads, group * rows, keys]`.
    fn weights(&self, call: &Call, q: &Tensor, keys: &Tensor) -> Tensor {
        let length = self.length();
        let keys = self.seen(keys).transpose(1, 2);
        // The summand counts 0 times and is never read.
        let unread = Tensor::empty([1], (q.kind(), q.device()));
        let scores = unread.baddbmm(q, &keys, 0.0, call.scale);
        let mask = call.mask.narrow(0, 0, length).narrow(1, 0, length);
        let by_query = scores.view([call.kv_heads, call.group, length, self.keys]);
        add(by_query.narrow(3, self.keys - length, length), &mask);
        scores.softmax(-1, None::<Kind>)
    }
}
