//! Attention of the Flex backend against the definition made of tensor operations. Elements are floating-point
//! operations: 2 products a visible (query, key) pair forward and 4 backward, recomputation not counted.

use std::hint::black_box;

use asft_model::{
    LlamaBackend, Stream,
    attention::attend,
    ops::{AttentionInputs, tiled_attention},
};
use burn::{backend::Flex, tensor::Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

mod setup;

use setup::A;

/// Name and tokens of prompt, chosen and rejected answer: one sequence each, and a pair that shares its prompt.
const STREAMS: [(&str, [usize; 3]); 4] = [
    ("512", [1, 511, 0]),
    ("1024", [1, 1023, 0]),
    ("2048", [1, 2047, 0]),
    ("2048-shared-prompt", [512, 768, 768]),
];

fn attention(criterion: &mut Criterion) {
    for shape in [setup::smollm2(), setup::llama_1b()] {
        let config = &shape.config;
        let mut group = criterion.benchmark_group(format!("attention/{}", shape.name));
        group.sample_size(10);
        for (name, tokens) in STREAMS {
            let (stream, visible) = setup::stream(config, &setup::batch(tokens));
            let tokens = tokens.iter().sum::<usize>();
            let heads = [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads];
            let qkv = heads.map(|heads| setup::random([tokens, heads, config.head_dim], 1.0));
            let grad = setup::random([tokens, config.num_attention_heads, config.head_dim], 1.0);
            let product = (2 * visible * config.num_attention_heads * config.head_dim) as u64;

            group.throughput(Throughput::Elements(2 * product));
            let forward = format!("forward/{name}");
            group.bench_function(format!("flex/{forward}"), |bench| {
                bench.iter(|| black_box(Flex::packed_attention_forward(inputs(&qkv, &stream))));
            });
            group.bench_function(format!("definition/{forward}"), |bench| {
                bench.iter(|| black_box(tiled_attention::forward(inputs(&qkv, &stream))));
            });

            group.throughput(Throughput::Elements(6 * product));
            let both = format!("forward-backward/{name}");
            group.bench_function(format!("flex/{both}"), |bench| {
                bench.iter(|| black_box(differentiated(&qkv, &grad, &stream)));
            });
            group.bench_function(format!("definition/{both}"), |bench| {
                bench.iter(|| {
                    let (out, lse) = tiled_attention::forward(inputs(&qkv, &stream));
                    let grad = grad.clone().into_primitive().tensor();
                    black_box(tiled_attention::backward(inputs(&qkv, &stream), out, lse, grad))
                });
            });
        }
        group.finish();
    }
}

fn inputs(qkv: &[Tensor<Flex, 3>; 3], stream: &Stream<Flex>) -> AttentionInputs<Flex> {
    let [q, k, v] = qkv.clone().map(|tensor| tensor.into_primitive().tensor());
    let scale = 1.0 / (qkv[0].dims()[2] as f64).sqrt();
    AttentionInputs { q, k, v, layout: stream.layout.clone(), scale }
}

/// Gradients of q, k and v through autodiff, as training gets them.
fn differentiated(
    qkv: &[Tensor<Flex, 3>; 3],
    grad: &Tensor<Flex, 3>,
    stream: &Stream<Flex>,
) -> [Option<Tensor<Flex, 3>>; 3] {
    let leaves = qkv.clone().map(|tensor| Tensor::<A, 3>::from_inner(tensor).require_grad());
    let [q, k, v] = leaves.clone();
    let out = attend(q, k, v, &stream.tracked());
    let gradients = (out * Tensor::from_inner(grad.clone())).sum().backward();
    leaves.map(|leaf| leaf.grad(&gradients))
}

criterion_group!(benches, attention);
criterion_main!(benches);
