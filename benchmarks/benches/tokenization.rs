//! From rows to token ids, with the tokenizer and the pairs of the quickstart. Elements are tokens.

use std::hint::black_box;

use asft_data::{
    Dataset, Tokenizer,
    dataset::LoadOptions,
    read::Source,
    schema::Format,
    template::{RenderOptions, TemplateChoice},
    truncation::Truncation,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const TOKENIZER: &[u8] = include_bytes!("../../quickstart/tokenizer.json");
const TOKENIZER_CONFIG: &[u8] = include_bytes!("../../quickstart/tokenizer_config.json");
const PAIRS: &[u8] = include_bytes!("../../quickstart/pairs.jsonl");

fn tokenizer() -> Tokenizer {
    Tokenizer::from_json("quickstart", TOKENIZER, TOKENIZER_CONFIG).expect("the quickstart's tokenizer")
}

fn load(tokenizer: &Tokenizer) -> Dataset {
    let options = LoadOptions {
        sources: vec![Source::Embedded { name: "pairs.jsonl", bytes: PAIRS }],
        format: Format::Auto,
        max_length: 512,
        truncation: Truncation::Drop,
        min_response_tokens: 0,
        template: TemplateChoice::Model
            .resolve(tokenizer, RenderOptions::default())
            .expect("the quickstart's template"),
    };
    Dataset::load(&options, tokenizer).expect("the quickstart's pairs")
}

fn tokenization(criterion: &mut Criterion) {
    let warm = tokenizer();
    let tokens: usize = load(&warm).pairs.iter().map(|pair| pair.tokens()).sum();
    let mut group = criterion.benchmark_group("tokenization");
    group.throughput(Throughput::Elements(tokens as u64));
    group.bench_function("first-time", |bench| {
        // A tokenizer remembers words, so each round needs one that has read nothing.
        bench.iter_batched(tokenizer, |fresh| black_box(load(&fresh)), BatchSize::PerIteration);
    });
    group.bench_function("again", |bench| bench.iter(|| black_box(load(&warm))));
    group.finish();
}

criterion_group!(benches, tokenization);
criterion_main!(benches);
