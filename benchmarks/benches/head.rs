//! The head of SmolLM2 on 1,000 scored rows. Elements are floating-point operations: one product forward; for
//! the gradients that product again and one for each of the two.

use std::hint::black_box;

use asft_model::head;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

mod setup;

const ROWS: usize = 1000;

fn bench_head(criterion: &mut Criterion) {
    let shape = setup::smollm2();
    let (vocab_size, width) = (shape.config.vocab_size, shape.config.hidden_size);
    let (hidden, weight) = (setup::random([ROWS, width], 1.0), setup::random([vocab_size, width], 0.02));
    let labels: Vec<u32> = (0..ROWS as u32).map(|row| row * 49 % vocab_size as u32).collect();
    let coefficients = vec![1.0 / ROWS as f32; ROWS];
    let product = (2 * ROWS * vocab_size * width) as u64;

    let mut group = criterion.benchmark_group(format!("head/{}", shape.name));
    group.sample_size(10);
    group.throughput(Throughput::Elements(product));
    group.bench_function("log-probs", |bench| {
        bench.iter(|| black_box(head::log_probs(hidden.clone(), &weight, &labels)));
    });
    group.throughput(Throughput::Elements(3 * product));
    group.bench_function("backward", |bench| {
        bench.iter(|| {
            black_box(head::backward(
                hidden.clone(),
                &weight,
                &labels,
                &coefficients,
                Some(head::no_gradient(&weight)),
            ))
        });
    });
    group.finish();
}

criterion_group!(benches, bench_head);
criterion_main!(benches);
