//! What every block needs to know of a token stream: rotary tables and who attends to whom.

use std::sync::Arc;

use asft_data::PairBatch;
use burn::tensor::{
    Tensor,
    backend::{AutodiffBackend, Backend},
};

use crate::{AttentionLayout, LlamaConfig, Span, rope};

/// Position-dependent inputs of a stream, the same for all blocks.
#[derive(Clone, Debug)]
pub struct Stream<B: Backend> {
    /// `[tokens, head_dim / 2]` cosines of the rotary angles.
    pub cos: Tensor<B, 2>,
    /// `[tokens, head_dim / 2]` sines.
    pub sin: Tensor<B, 2>,
    /// Which keys each query sees.
    pub layout: Arc<AttentionLayout>,
    /// Seed of a training pass's dropout; `None` where nothing is dropped.
    pub dropout: Option<u64>,
}

impl<B: Backend> Stream<B> {
    /// The stream of a micro-batch, without dropout.
    pub fn new(config: &LlamaConfig, batch: &PairBatch, device: &B::Device) -> Self {
        let (cos, sin) = rope::tables(&rope::inverse_frequencies(config), &batch.positions, device);
        Self { cos, sin, layout: Arc::new(AttentionLayout::of_pairs(&batch.segments)), dropout: None }
    }

    /// One sequence of so many tokens.
    pub fn of_sequence(config: &LlamaConfig, tokens: usize, device: &B::Device) -> Self {
        let positions: Vec<u32> = (0..tokens as u32).collect();
        let (cos, sin) = rope::tables(&rope::inverse_frequencies(config), &positions, device);
        let layout = AttentionLayout::new(vec![Span { prefix: 0..0, own: 0..tokens }]);
        Self { cos, sin, layout: Arc::new(layout), dropout: None }
    }

    /// The same stream for a block under autodiff; nothing in it is tracked.
    pub fn tracked<A: AutodiffBackend<InnerBackend = B>>(&self) -> Stream<A> {
        Stream {
            cos: Tensor::from_inner(self.cos.clone()),
            sin: Tensor::from_inner(self.sin.clone()),
            layout: self.layout.clone(),
            dropout: self.dropout,
        }
    }
}
