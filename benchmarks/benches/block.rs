//! One block of SmolLM2 over a pair that shares its prompt. Elements are tokens.

use std::hint::black_box;

use asft_model::{Llama, checkpoint::RandomWeights};
use burn::{backend::Flex, module::AutodiffModule, tensor::Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

mod setup;

use setup::A;

fn block(criterion: &mut Criterion) {
    let shape = setup::smollm2();
    let mut group = criterion.benchmark_group(format!("block/{}", shape.name));
    group.sample_size(10);
    let model = Llama::<A>::load(&shape.config, &mut RandomWeights::new(1, 0.02), &Default::default())
        .expect("random weights fit any shape");
    let tracked = &model.model.layers[0];
    let plain = tracked.valid();
    for (name, tokens) in [("1000", [200, 400, 400]), ("2000", [400, 800, 800])] {
        let (stream, _) = setup::stream(&shape.config, &setup::batch(tokens));
        let tokens = tokens.iter().sum();
        let x: Tensor<Flex, 2> = setup::random([tokens, shape.config.hidden_size], 1.0);
        let grad = setup::random([tokens, shape.config.hidden_size], 1.0);

        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(format!("forward/{name}"), |bench| {
            bench.iter(|| black_box(plain.forward(x.clone(), &stream)));
        });
        let stream = stream.tracked::<A>();
        group.bench_function(format!("forward-backward/{name}"), |bench| {
            bench.iter(|| {
                let x = Tensor::<A, 2>::from_inner(x.clone()).require_grad();
                let y = tracked.forward(x.clone(), &stream);
                let gradients = (y * Tensor::from_inner(grad.clone())).sum().backward();
                black_box((x.grad(&gradients), gradients))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, block);
criterion_main!(benches);
