//! AdamW over 10 million parameters with moments. Elements are parameters.

use asft_model::{LlamaBackend, WeightType, ops::AdamWStep};
use burn::backend::Flex;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

mod setup;

const PARAMETERS: usize = 10_000_000;

fn optimizer(criterion: &mut Criterion) {
    let step = AdamWStep {
        betas: [0.9, 0.999],
        corrections: [0.1, 0.001],
        eps: 1e-8,
        rate: 1e-5,
        decay: 0.01,
        scale: 0.5,
        state_type: WeightType::F32,
        rounding_seed: 1,
    };
    let gradient = setup::random([PARAMETERS], 0.01);
    let (value, state) = Flex::adamw(setup::random([PARAMETERS], 0.02), gradient.clone(), None, step);
    // Handed on from one step to the next, as in training, where nothing else holds them.
    let mut held = Some((value, state));
    let mut group = criterion.benchmark_group("optimizer");
    group.sample_size(10);
    group.throughput(Throughput::Elements(PARAMETERS as u64));
    group.bench_function("adamw", |bench| {
        bench.iter(|| {
            let (value, state) = held.take().expect("every step puts them back");
            held = Some(Flex::adamw(value, gradient.clone(), Some(state), step));
        });
    });
    group.finish();
}

criterion_group!(benches, optimizer);
criterion_main!(benches);
