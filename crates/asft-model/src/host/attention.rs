//! Attention in tiles that stay in the cache (after FlashAttention, arXiv 2205.14135 and 2307.08691).
//!
//! A tile of queries meets the keys it can see a block at a time. The forward pass keeps a running maximum and
//! a running sum of each row, so scores of a tile against a block are all that ever exists; the backward pass
//! makes them again from the log-sum-exp. A tile holds some queries of all heads that share a key head, one head's below
//! the other's, so that products read each key and value once for all of them.
//!
//! Both passes go over runs of consecutive tokens in parallel, whose rows of the output, or of dq, are theirs
//! alone. Gradients of keys are summed run by run, in stream order.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Number, cast,
    matrix::{Factor, Into, Matrix, Threads, product},
    simd,
};
use crate::{AttentionLayout, Span};

/// Rows of a tile, about: with a block's scores, their gradients and what both become, less than a core's own cache.
const ROWS: usize = 256;
/// Keys of a block.
const BLOCK: usize = 256;
/// A span's gradients of keys are summed from at most this many runs.
const RUNS: usize = 8;

/// The operands, `[tokens, heads, dim]` and `[tokens, kv_heads, dim]`. Whatever their type, softmax and sums are f32.
#[derive(Clone, Copy)]
pub struct Call<'a, T> {
    pub q: &'a [T],
    pub k: &'a [T],
    pub v: &'a [T],
    pub layout: &'a AttentionLayout,
    pub scale: f32,
    pub heads: usize,
    pub kv_heads: usize,
    pub dim: usize,
}

/// Copies of the operands in f32, made once rather than tile by tile.
struct Wide {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Wide {
    fn new<T: Number>(call: Call<'_, T>) -> Self {
        Self { q: cast(call.q), k: cast(call.k), v: cast(call.v) }
    }

    fn call<'a, T>(&'a self, call: Call<'a, T>) -> Call<'a, f32> {
        let Call { layout, scale, heads, kv_heads, dim, .. } = call;
        Call { q: &self.q, k: &self.k, v: &self.v, layout, scale, heads, kv_heads, dim }
    }
}

/// Output and log-sum-exp; see [`crate::LlamaBackend::packed_attention_forward`].
pub fn forward<T: Factor<f32>>(call: Call<'_, T>) -> [Vec<f32>; 2] {
    if !T::has_instruction() {
        return forward(Wide::new(call).call(call));
    }
    let Call { heads, dim, .. } = call;
    let tokens = call.tokens();
    let (mut out, mut lse) = (vec![0.0; tokens * heads * dim], vec![0.0; tokens * heads]);
    let tiles: Vec<Run> = call.runs(|_| call.tile()).collect();
    let outs = rows_of(&tiles, &mut out, heads * dim);
    let lses = rows_of(&tiles, &mut lse, heads);
    tiles.par_iter().zip(outs).zip(lses).for_each_init(Scratch::default, |scratch, ((tile, out), lse)| {
        for kv_head in 0..call.kv_heads {
            call.forward_tile(tile, kv_head, out, lse, scratch);
        }
    });
    [out, lse]
}

/// Gradients of q, k and v; see [`crate::LlamaBackend::packed_attention_backward`]. With `p = exp(scores - lse)` and `dp = dout vᵀ`:
/// `dscores = p (dp - rowsum(dout out))`, `dq = dscores k`, `dk = dscoresᵀ q`, `dv = pᵀ dout`.
pub fn backward<T: Factor<f32>>(call: Call<'_, T>, out: &[f32], lse: &[f32], grad: &[T]) -> [Vec<f32>; 3] {
    if !T::has_instruction() {
        return backward(Wide::new(call).call(call), out, lse, &cast::<T, f32>(grad));
    }
    let Call { heads, kv_heads, dim, .. } = call;
    let tokens = call.tokens();
    let pass = Backward { call, out, lse, grad };
    let runs: Vec<Run> =
        call.runs(|span| span.own.len().div_ceil(RUNS).next_multiple_of(call.tile())).collect();
    let mut dq = vec![0.0; tokens * heads * dim];
    let dqs = rows_of(&runs, &mut dq, heads * dim);
    let parts: Vec<[Vec<f32>; 2]> = runs
        .par_iter()
        .zip(dqs)
        .with_max_len(1)
        .map_init(Scratch::default, |scratch, (run, dq)| pass.run(run, dq, scratch))
        .collect();
    let width = kv_heads * dim;
    let [mut dk, mut dv] = [vec![0.0; tokens * width], vec![0.0; tokens * width]];
    for (run, [dk_part, dv_part]) in runs.iter().zip(parts) {
        let prefix = run.prefix.len() * width;
        for (sum, part) in [(&mut dk, dk_part), (&mut dv, dv_part)] {
            let (first, second) = part.split_at(prefix);
            simd::vectorized(
                #[inline(always)]
                || {
                    simd::add(&mut sum[run.prefix.start * width..][..prefix], first);
                    simd::add(&mut sum[run.own.start * width..][..second.len()], second);
                },
            );
        }
    }
    [dq, dk, dv]
}

/// Consecutive queries of one span and the stretches of the stream that hold the keys they can see.
#[derive(Clone, Debug)]
struct Run {
    queries: Range<usize>,
    prefix: Range<usize>,
    /// From the start of the span to the end of the queries.
    own: Range<usize>,
}

/// Cuts `data`, rows of `width` by token, at the ends of the runs.
fn rows_of<'a>(runs: &[Run], mut data: &'a mut [f32], width: usize) -> Vec<&'a mut [f32]> {
    let cut = |run: &Run| {
        let (rows, rest) = std::mem::take(&mut data).split_at_mut(run.queries.len() * width);
        data = rest;
        rows
    };
    runs.iter().map(cut).collect()
}

/// A block of keys as a tile of queries sees it.
struct Block {
    keys: Range<usize>,
    /// Where the block's keys lie among the run's visible keys.
    offset: usize,
    /// Queries see the keys up to their own place only.
    diagonal: bool,
}

impl Block {
    /// Keys that the tile's query `query` sees.
    fn visible(&self, query: usize) -> usize {
        if self.diagonal { query + 1 } else { self.keys.len() }
    }
}

impl Run {
    fn tiles(&self, length: usize) -> impl Iterator<Item = Run> + '_ {
        self.queries.clone().step_by(length).map(move |start| {
            let end = self.queries.end.min(start + length);
            Run { queries: start..end, prefix: self.prefix.clone(), own: self.own.start..end }
        })
    }

    /// Blocks of keys of a tile: the prefix, the span before the tile, the tile itself.
    fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        let before = self.own.start..self.queries.start;
        let own = self.prefix.len();
        let whole =
            [(self.prefix.clone(), 0), (before.clone(), own)].into_iter().flat_map(|(stretch, at)| {
                stretch.clone().step_by(BLOCK).map(move |start| Block {
                    keys: start..stretch.end.min(start + BLOCK),
                    offset: at + start - stretch.start,
                    diagonal: false,
                })
            });
        whole.chain([Block { keys: self.queries.clone(), offset: own + before.len(), diagonal: true }])
    }
}

/// Buffers of a thread, as large as the largest tile so far.
struct Scratch<T> {
    /// Rows of the tile, side by side.
    q: Vec<T>,
    dout: Vec<T>,
    scores: Vec<f32>,
    score_gradients: Vec<f32>,
    /// What becomes of both as factors of the next products.
    weights: Vec<T>,
    gradients: Vec<T>,
    out: Vec<f32>,
    max: Vec<f32>,
    sum: Vec<f32>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            q: vec![],
            dout: vec![],
            scores: vec![],
            score_gradients: vec![],
            weights: vec![],
            gradients: vec![],
            out: vec![],
            max: vec![],
            sum: vec![],
        }
    }
}

impl<'a, T: Factor<f32>> Call<'a, T> {
    fn tokens(&self) -> usize {
        self.layout.tokens()
    }

    /// Cuts every span into runs of `length(span)` queries, in stream order.
    fn runs(&self, length: impl Fn(&Span) -> usize) -> impl Iterator<Item = Run> {
        self.layout.spans().iter().flat_map(move |Span { prefix, own }| {
            let length = length(&Span { prefix: prefix.clone(), own: own.clone() });
            own.clone().step_by(length).map(move |start| {
                let end = own.end.min(start + length);
                Run { queries: start..end, prefix: prefix.clone(), own: own.start..end }
            })
        })
    }

    /// Query heads that share a key head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Queries of a tile.
    fn tile(&self) -> usize {
        (ROWS / self.group()).next_multiple_of(32).min(128)
    }

    /// Keys or values of one head.
    fn keys(&self, data: &'a [T], kv_head: usize, tokens: Range<usize>) -> Matrix<'a, T> {
        let stride = self.kv_heads * self.dim;
        Matrix::new(&data[tokens.start * stride + kv_head * self.dim..], [tokens.len(), self.dim], stride)
    }

    /// Place of each row of a tile among those of `[tokens, heads]`, counted from the tile's first token: head by head of
    /// those that share a key head, query by query.
    fn rows(self, tile: &Run, kv_head: usize) -> impl Iterator<Item = usize> + Clone {
        let (queries, first) = (tile.queries.len(), kv_head * self.group());
        (first..first + self.group())
            .flat_map(move |head| (0..queries).map(move |query| query * self.heads + head))
    }

    /// Gathers a tile's rows of `data` `[tokens, heads, dim]`.
    fn gather(self, data: &[T], tile: &Run, kv_head: usize, rows: &mut Vec<T>) {
        let data = &data[tile.queries.start * self.heads * self.dim..];
        rows.clear();
        for row in self.rows(tile, kv_head) {
            rows.extend_from_slice(&data[row * self.dim..][..self.dim]);
        }
    }

    /// Output and log-sum-exp of a tile, into its rows.
    fn forward_tile(
        self,
        tile: &Run,
        kv_head: usize,
        out: &mut [f32],
        lse: &mut [f32],
        scratch: &mut Scratch<T>,
    ) {
        let (queries, dim) = (tile.queries.len(), self.dim);
        let rows = self.group() * queries;
        let Scratch { q, scores, weights, out: sums, max, sum, .. } = scratch;
        self.gather(self.q, tile, kv_head, q);
        let q = Matrix::new(q, [rows, dim], dim);
        sums.clear();
        sums.resize(rows * dim, 0.0);
        max.clear();
        max.resize(rows, f32::MIN);
        sum.clear();
        sum.resize(rows, 0.0);
        for block in tile.blocks() {
            let keys = block.keys.len();
            scores.resize(rows * keys, 0.0);
            weights.resize(rows * keys, T::put(0.0));
            let k = self.keys(self.k, kv_head, block.keys.clone());
            product(scores, keys, Into::Replace, self.scale, q, k.transpose(), Threads::One);
            simd::vectorized(
                #[inline(always)]
                || {
                    let pairs = scores.chunks_exact_mut(keys).zip(weights.chunks_exact_mut(keys));
                    for (row, (scores, weights)) in pairs.enumerate() {
                        let scores = &mut scores[..block.visible(row % queries)];
                        let highest = simd::max(scores).max(max[row]);
                        let kept = simd::exp(max[row] - highest);
                        sum[row] = sum[row] * kept + simd::exp_in_place(scores, highest);
                        max[row] = highest;
                        let (visible, hidden) = weights.split_at_mut(scores.len());
                        for (weight, score) in visible.iter_mut().zip(scores) {
                            *weight = T::put(*score);
                        }
                        hidden.fill(T::put(0.0));
                        simd::scale(&mut sums[row * dim..(row + 1) * dim], kept);
                    }
                },
            );
            let weights = Matrix::new(weights, [rows, keys], keys);
            let v = self.keys(self.v, kv_head, block.keys);
            product(sums, dim, Into::Add, 1.0, weights, v, Threads::One);
        }
        for (row, place) in self.rows(tile, kv_head).enumerate() {
            for (out, value) in out[place * dim..][..dim].iter_mut().zip(&sums[row * dim..]) {
                *out = value / sum[row];
            }
            lse[place] = max[row] + sum[row].ln();
        }
    }
}

struct Backward<'a, T> {
    call: Call<'a, T>,
    out: &'a [f32],
    lse: &'a [f32],
    grad: &'a [T],
}

impl<T: Factor<f32>> Backward<'_, T> {
    /// Writes the run's rows of dq and returns its part of dk and dv, by visible key.
    fn run(&self, run: &Run, dq: &mut [f32], scratch: &mut Scratch<T>) -> [Vec<f32>; 2] {
        let Call { heads, kv_heads, dim, .. } = self.call;
        let keys = run.prefix.len() + run.own.len();
        let mut parts = [vec![0.0; keys * kv_heads * dim], vec![0.0; keys * kv_heads * dim]];
        for tile in run.tiles(self.call.tile()) {
            let dq = &mut dq[(tile.queries.start - run.queries.start) * heads * dim..];
            for kv_head in 0..kv_heads {
                self.tile(&tile, kv_head, dq, &mut parts, scratch);
            }
        }
        parts
    }

    fn tile(
        &self,
        tile: &Run,
        kv_head: usize,
        dq: &mut [f32],
        [dk, dv]: &mut [Vec<f32>; 2],
        scratch: &mut Scratch<T>,
    ) {
        let call = self.call;
        let Call { heads, kv_heads, dim, scale, .. } = call;
        let (queries, width) = (tile.queries.len(), kv_heads * dim);
        let rows = call.group() * queries;
        let Scratch {
            q,
            dout,
            scores,
            score_gradients,
            weights,
            gradients,
            out: dq_rows,
            max: lse,
            sum: delta,
        } = scratch;
        call.gather(call.q, tile, kv_head, q);
        call.gather(self.grad, tile, kv_head, dout);
        let (q, dout) = (Matrix::new(q, [rows, dim], dim), Matrix::new(dout, [rows, dim], dim));
        dq_rows.clear();
        dq_rows.resize(rows * dim, 0.0);
        let places = call.rows(tile, kv_head).map(|place| tile.queries.start * heads + place);
        lse.clear();
        lse.extend(places.clone().map(|place| self.lse[place]));
        delta.clear();
        simd::vectorized(
            #[inline(always)]
            || {
                for place in places {
                    let row = place * dim..(place + 1) * dim;
                    delta.push(simd::dot(&self.out[row.clone()], &self.grad[row]));
                }
            },
        );
        for block in tile.blocks() {
            let keys = block.keys.len();
            scores.resize(rows * keys, 0.0);
            score_gradients.resize(rows * keys, 0.0);
            weights.resize(rows * keys, T::put(0.0));
            gradients.resize(rows * keys, T::put(0.0));
            let [k, v] = [call.k, call.v].map(|data| call.keys(data, kv_head, block.keys.clone()));
            product(scores, keys, Into::Replace, scale, q, k.transpose(), Threads::One);
            product(score_gradients, keys, Into::Replace, 1.0, dout, v.transpose(), Threads::One);
            simd::vectorized(
                #[inline(always)]
                || {
                    let inputs = scores.chunks_exact(keys).zip(score_gradients.chunks_exact(keys));
                    let outputs = weights.chunks_exact_mut(keys).zip(gradients.chunks_exact_mut(keys));
                    for (row, ((scores, grads), (weights, gradients))) in inputs.zip(outputs).enumerate() {
                        let visible = block.visible(row % queries);
                        let (lse, delta) = (lse[row], delta[row]);
                        let (scores, grads) = (&scores[..visible], &grads[..visible]);
                        let (weights, hidden_weights) = weights.split_at_mut(visible);
                        let (gradients, hidden_gradients) = gradients.split_at_mut(visible);
                        for i in 0..visible {
                            let weight = simd::exp(scores[i] - lse);
                            weights[i] = T::put(weight);
                            gradients[i] = T::put(weight * (grads[i] - delta) * scale);
                        }
                        hidden_weights.fill(T::put(0.0));
                        hidden_gradients.fill(T::put(0.0));
                    }
                },
            );
            let weights = Matrix::new(weights, [rows, keys], keys);
            let gradients = Matrix::new(gradients, [rows, keys], keys);
            let at = block.offset * width + kv_head * dim;
            product(&mut dv[at..], width, Into::Add, 1.0, weights.transpose(), dout, Threads::One);
            product(&mut dk[at..], width, Into::Add, 1.0, gradients.transpose(), q, Threads::One);
            product(dq_rows, dim, Into::Add, 1.0, gradients, k, Threads::One);
        }
        for (row, place) in call.rows(tile, kv_head).enumerate() {
            dq[place * dim..][..dim].copy_from_slice(&dq_rows[row * dim..][..dim]);
        }
    }
}
