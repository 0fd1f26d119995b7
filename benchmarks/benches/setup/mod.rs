//! Models and inputs that several benches measure with.
#![allow(dead_code, reason = "each bench uses some of it")]

use asft_data::{EncodedPair, Origin, PairBatch};
use asft_model::{AttentionLayout, LlamaConfig, Stream};
use burn::{
    backend::{Autodiff, Flex},
    tensor::{Distribution, Tensor},
};
use serde_json::{Value, json};

/// The differentiable backend.
pub type A = Autodiff<Flex>;

/// A model's name and shape; its vocabulary is the real one, its depth one block.
pub struct Shape {
    /// As it stands in the benchmark's name.
    pub name: &'static str,
    /// The shape.
    pub config: LlamaConfig,
}

/// SmolLM2-135M.
pub fn smollm2() -> Shape {
    shape(
        "smollm2",
        json!({"hidden_size": 576, "intermediate_size": 1536, "vocab_size": 49152,
        "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64}),
    )
}

/// Llama 3.2 1B.
pub fn llama_1b() -> Shape {
    shape(
        "llama-3.2-1b",
        json!({"hidden_size": 2048, "intermediate_size": 8192, "vocab_size": 128_256,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64}),
    )
}

fn shape(name: &'static str, mut config: Value) -> Shape {
    config["model_type"] = "llama".into();
    config["num_hidden_layers"] = 1.into();
    config["tie_word_embeddings"] = true.into();
    config["rope_theta"] = 500_000.0.into();
    let config = LlamaConfig::from_json(config.to_string().as_bytes(), name.as_ref());
    Shape { name, config: config.expect("the shape of a Llama model") }
}

/// A micro-batch of one pair with so many tokens of prompt, chosen and rejected answer.
pub fn batch(tokens: [usize; 3]) -> PairBatch {
    let [prompt, chosen, rejected] = tokens.map(|tokens| (0..tokens as u32).map(|id| id % 1000).collect());
    let origin = Origin { file: std::path::Path::new("bench").into(), row: 1 };
    PairBatch::new(&[EncodedPair { origin, prompt, chosen, rejected }])
}

/// The stream of a micro-batch and the (query, key) pairs that one head sees in it.
pub fn stream(config: &LlamaConfig, batch: &PairBatch) -> (Stream<Flex>, usize) {
    let visible = AttentionLayout::of_pairs(&batch.segments).visible_pairs();
    (Stream::new(config, batch, &Default::default()), visible)
}

/// Normal numbers of standard deviation `deviation`.
pub fn random<const D: usize>(shape: [usize; D], deviation: f64) -> Tensor<Flex, D> {
    Tensor::random(shape, Distribution::Normal(0.0, deviation), &Default::default())
}
