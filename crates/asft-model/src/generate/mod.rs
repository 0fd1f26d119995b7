//! Generation with kept keys and values.
//!
//! A prompt goes through the model once, by itself; then every sequence in progress takes one token a step, all in one
//! batch, without padding. A sequence that ends makes room for the next prompt. What a sequence is answered does not
//! depend on its neighbours, but for rounding where a backend's products do.

mod sampling;

use std::{collections::BTreeSet, ops::ControlFlow};

use burn::tensor::{DType, Tensor, TensorMetadata, ops::FloatTensor};

pub use sampling::{Sampler, Sampling};

use crate::{
    Llama, LlamaBackend, LlamaConfig, Stream,
    attention::attend,
    llama::index_tensor,
    ops::{KeyValues, decode, primitive, tensor},
    rope,
};

/// Room of a cache grows by at least this many tokens.
const GROWTH: usize = 256;

/// A prompt to go on from.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its token ids, at least one.
    pub prompt: Vec<u32>,
    /// Most tokens to add.
    pub max_new_tokens: usize,
    /// How they are drawn.
    pub sampling: Sampling,
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model gave one of the ids that end a turn.
    EndOfTurn,
    /// It has as many tokens as were asked for, or as the model was made for.
    Length,
}

/// What was added to a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Token ids, with the one that ended the turn.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

/// What happens while sequences grow.
#[derive(Debug)]
pub enum Event {
    /// A sequence, by the number of its request, got a token.
    Token(usize, u32),
    /// It is done.
    Done(usize, Generated),
}

/// A model that generates.
pub struct Generator<'a, B: LlamaBackend> {
    model: &'a Llama<B>,
    config: &'a LlamaConfig,
    frequencies: Vec<f64>,
    stop: &'a BTreeSet<u32>,
    device: B::Device,
    dtype: DType,
}

struct Sequence {
    request: usize,
    tokens: Vec<u32>,
    /// Tokens after which it ends.
    limit: usize,
    /// Tokens that its caches hold.
    position: usize,
    sampler: Sampler,
}

/// Sequences in progress.
struct Batch<B: LlamaBackend> {
    sequences: Vec<Sequence>,
    /// By layer, then by sequence.
    caches: Vec<Vec<KeyValues<B>>>,
}

impl<'a, B: LlamaBackend> Generator<'a, B> {
    /// One that ends turns at the ids of `stop`.
    pub fn new(model: &'a Llama<B>, config: &'a LlamaConfig, stop: &'a BTreeSet<u32>) -> Self {
        let weight = model.model.embed_tokens.weight.val();
        let frequencies = rope::inverse_frequencies(config);
        Self { model, config, frequencies, stop, device: weight.device(), dtype: weight.dtype() }
    }

    /// Answers numbered requests, at most `batch` at a time, and tells `observe` as they grow, which may break it off. A
    /// request is taken when there is room for it, and looked for again after every step, so that `observe` may add to
    /// those that wait.
    ///
    /// # Panics
    /// If a prompt is empty or does not fit the model's positions, or `batch` is 0.
    pub fn run(
        &self,
        requests: &mut dyn Iterator<Item = (usize, Request)>,
        batch: usize,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        assert!(batch > 0, "a batch of no sequences");
        let layers = self.model.model.layers.len();
        let mut going = Batch { sequences: vec![], caches: (0..layers).map(|_| vec![]).collect() };
        loop {
            while going.sequences.len() < batch
                && let Some((request, Request { prompt, max_new_tokens, sampling })) = requests.next()
            {
                let room = self.config.max_position_embeddings.saturating_sub(prompt.len());
                assert!(!prompt.is_empty() && room > 0, "prompt {request} has {} tokens", prompt.len());
                let limit = room.min(max_new_tokens);
                if limit == 0 {
                    observe(Event::Done(request, Generated { tokens: vec![], finish: Finish::Length }))?;
                    continue;
                }
                let (caches, logits) = self.read_prompt(&prompt, limit);
                let (position, sampler) = (prompt.len(), Sampler::new(sampling));
                let mut sequence = Sequence { request, tokens: vec![], limit, position, sampler };
                if !self.take(&mut sequence, &logits, observe)? {
                    going.sequences.push(sequence);
                    going.caches.iter_mut().zip(caches).for_each(|(layer, cache)| layer.push(cache));
                }
            }
            if going.sequences.is_empty() {
                return ControlFlow::Continue(());
            }
            let logits = self.step(&mut going);
            let width = logits.len() / going.sequences.len();
            let mut ended = vec![];
            for (sequence, logits) in going.sequences.iter_mut().zip(logits.chunks_exact(width)) {
                ended.push(self.take(sequence, logits, observe)?);
            }
            let keep = |row: &mut usize| {
                *row += 1;
                !ended[*row - 1]
            };
            let mut row = 0;
            going.sequences.retain(|_| keep(&mut row));
            for layer in &mut going.caches {
                let mut row = 0;
                layer.retain(|_| keep(&mut row));
            }
        }
    }

    /// Draws a sequence's next token; true if it was the last.
    fn take(
        &self,
        sequence: &mut Sequence,
        logits: &[f32],
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> ControlFlow<(), bool> {
        let token = sequence.sampler.next(logits);
        sequence.tokens.push(token);
        observe(Event::Token(sequence.request, token))?;
        let finish = if self.stop.contains(&token) {
            Finish::EndOfTurn
        } else if sequence.tokens.len() == sequence.limit {
            Finish::Length
        } else {
            return ControlFlow::Continue(false);
        };
        let tokens = std::mem::take(&mut sequence.tokens);
        observe(Event::Done(sequence.request, Generated { tokens, finish }))?;
        ControlFlow::Continue(true)
    }

    /// Keys and values of a prompt with room for `limit` more at most, and the logits of what follows it.
    fn read_prompt(&self, prompt: &[u32], limit: usize) -> (Vec<KeyValues<B>>, Vec<f32>) {
        let length = prompt.len();
        let stream = Stream::of_sequence(self.config, length, &self.device);
        let capacity = length + limit.min(GROWTH);
        let mut caches = Vec::with_capacity(self.model.model.layers.len());
        let mut x = self.model.embed(self.model.ids(prompt));
        for block in &self.model.model.layers {
            x = block.forward_with(x, None, |attention, x| {
                attention.forward_with(x, &stream.cos, &stream.sin, None, |q, k, v| {
                    let keep = |rows: &Tensor<B, 3>| {
                        let [_, heads, dim] = rows.dims();
                        let buffer = decode::empty::<B>([capacity, heads, dim], self.dtype, &self.device);
                        B::write_rows(buffer, primitive(rows.clone()), 0)
                    };
                    caches.push(KeyValues { k: keep(&k), v: keep(&v), length });
                    attend(q, k, v, &stream)
                })
            });
        }
        (caches, self.logits(x.narrow(0, length - 1, 1)))
    }

    /// Logits after the newest token of each sequence, row by row; that token's keys and values are kept.
    fn step(&self, going: &mut Batch<B>) -> Vec<f32> {
        let newest = |sequence: &Sequence| *sequence.tokens.last().expect("one was drawn");
        let newest: Vec<u32> = going.sequences.iter().map(newest).collect();
        let positions: Vec<u32> = going.sequences.iter().map(|sequence| sequence.position as u32).collect();
        going.sequences.iter_mut().for_each(|sequence| sequence.position += 1);
        let (cos, sin) = rope::tables(&self.frequencies, &positions, &self.device);
        let scale = 1.0 / (self.config.head_dim as f64).sqrt();
        let mut x = self.model.embed(index_tensor(&newest, self.config.vocab_size, &self.device));
        for (block, caches) in self.model.model.layers.iter().zip(&mut going.caches) {
            x = block.forward_with(x, None, |attention, x| {
                attention.forward_with(x, &cos, &sin, None, |q, k, v| {
                    let row = |rows: &Tensor<B, 3>, row: usize| rows.clone().narrow(0, row, 1);
                    let kept = std::mem::take(caches).into_iter().enumerate();
                    *caches = kept.map(|(i, cache)| self.append(cache, row(&k, i), row(&v, i))).collect();
                    tensor(B::decode_attention(primitive(q), caches, scale))
                })
            });
        }
        self.logits(x)
    }

    /// A cache with one token more.
    fn append(&self, cache: KeyValues<B>, k: Tensor<B, 3>, v: Tensor<B, 3>) -> KeyValues<B> {
        let KeyValues { k: keys, v: values, length } = cache;
        let write = |buffer: FloatTensor<B>, row: Tensor<B, 3>| {
            let [capacity, heads, dim] = buffer.shape().dims();
            let buffer = match length < capacity {
                true => buffer,
                false => {
                    let room = decode::empty::<B>([length + GROWTH, heads, dim], self.dtype, &self.device);
                    B::write_rows(room, buffer, 0)
                }
            };
            B::write_rows(buffer, primitive(row), length)
        };
        KeyValues { k: write(keys, k), v: write(values, v), length: length + 1 }
    }

    /// Hidden states `[rows, hidden]`, not normed, to logits row by row.
    fn logits(&self, x: Tensor<B, 2>) -> Vec<f32> {
        let hidden = self.model.model.norm.forward(x);
        let logits = tensor::<B, 2>(B::project(primitive(hidden), primitive(self.model.head_weight())));
        logits.into_data().convert::<f32>().into_vec().expect("converted to f32")
    }
}
