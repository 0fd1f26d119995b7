//! Log-prob sums of a golden's pairs under a model, and what they should be.

use std::path::{Path, PathBuf};

use asft_data::{EncodedPair, Origin, PairBatch, pack::ScoredPair};
use asft_model::{Llama, LlamaBackend, Stream, checkpoint::Checkpoint, head};
use burn::tensor::{Tensor, TensorData};
use serde_json::Value;

/// A directory of `tests/goldens`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// Token ids and (prompt, chosen, rejected) log-prob sums of a golden's `expected.json`.
pub fn pairs(golden: &Path) -> Vec<(EncodedPair, [f64; 3])> {
    let text = std::fs::read_to_string(golden.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let ids =
        |value: &Value| value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let pair = |(row, value): (usize, &Value)| {
        let pair = EncodedPair {
            origin: Origin { file: golden.into(), row: row + 1 },
            prompt: ids(&value["prompt"]),
            chosen: ids(&value["chosen"]),
            rejected: ids(&value["rejected"]),
        };
        let sums = ["logp_sum_prompt", "logp_sum_chosen", "logp_sum_rejected"]
            .map(|key| value[key].as_f64().unwrap());
        (pair, sums)
    };
    expected["pairs"].as_array().unwrap().iter().enumerate().map(pair).collect()
}

/// Sums of log-probs as (prompt, chosen, rejected) of each pair, all pairs in one stream.
pub fn score<B: LlamaBackend>(
    model: &Llama<B>,
    checkpoint: &Checkpoint,
    pairs: &[&EncodedPair],
) -> Vec<[f64; 3]> {
    let device = Default::default();
    let batch = PairBatch::new(pairs.iter().copied());
    let stream = Stream::new(checkpoint.config(), &batch, &device);
    let scored = batch.scored(true);
    let rows: Vec<i32> = scored.rows.iter().map(|&row| row as i32).collect();
    let rows = Tensor::from_data(TensorData::new(rows, [scored.rows.len()]), &device);
    let hidden = model.hidden_states(&batch.token_ids, &stream).select(0, rows);
    let log_probs = head::log_probs(hidden, &model.head_weight(), &scored.labels);
    let sum =
        |range: &std::ops::Range<usize>| log_probs[range.clone()].iter().map(|&x| f64::from(x)).sum::<f64>();
    let prompt = |pair: &ScoredPair| sum(pair.prompt.as_ref().expect("prompts were asked for"));
    scored.pairs.iter().map(|pair| [prompt(pair), sum(&pair.chosen), sum(&pair.rejected)]).collect()
}

/// Whether two sums differ by no more than `relative`.
pub fn close(got: f64, expected: f64, relative: f64) -> bool {
    (got - expected).abs() <= relative * expected.abs()
}
