//! Log-probs of tiny random checkpoints against transformers in f64 (`goldens/tiny_models.py`).
#![cfg(feature = "flex")]

use std::path::{Path, PathBuf};

use asft_data::{EncodedPair, Origin, PairBatch};
use asft_model::{Llama, Stream, checkpoint::Checkpoint, head};
use burn::{
    backend::Flex,
    tensor::{Tensor, TensorData},
};
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

fn pairs(golden: &Path) -> Vec<(EncodedPair, [f64; 3])> {
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
fn score(model: &Llama<Flex>, checkpoint: &Checkpoint, pairs: &[&EncodedPair]) -> Vec<[f64; 3]> {
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
    scored.pairs.iter().map(|pair| [sum(&pair.prompt), sum(&pair.chosen), sum(&pair.rejected)]).collect()
}

fn close(got: f64, expected: f64, relative: f64) -> bool {
    (got - expected).abs() <= relative * expected.abs()
}

#[test]
fn tiny_checkpoints_score_as_in_transformers() {
    for name in ["llama3", "llama31_tied", "head_dim", "sharded"] {
        let golden = golden(name);
        let mut checkpoint = Checkpoint::open(&golden).unwrap();
        let config = checkpoint.config().clone();
        let model = Llama::<Flex>::load(&config, checkpoint.weights(), &Default::default()).unwrap();
        let pairs = pairs(&golden);
        let all: Vec<_> = pairs.iter().map(|(pair, _)| pair).collect();
        let packed = score(&model, &checkpoint, &all);
        assert_eq!(pairs.len(), 8);
        for (index, ((pair, expected), packed)) in pairs.iter().zip(&packed).enumerate() {
            let alone = score(&model, &checkpoint, &[pair])[0];
            for part in 0..3 {
                assert!(
                    close(packed[part], expected[part], 1e-4),
                    "{name}, pair {index}, part {part}: {} against {}",
                    packed[part],
                    expected[part]
                );
                assert!(
                    close(packed[part], alone[part], 1e-5),
                    "{name}, pair {index}: packing changes the score"
                );
            }
        }
    }
}

/// Two sequences that repeat the prompt must score as the pair that holds it once.
#[test]
fn a_shared_prompt_scores_like_two_sequences() {
    let golden = golden("llama3");
    let mut checkpoint = Checkpoint::open(&golden).unwrap();
    let config = checkpoint.config().clone();
    let model = Llama::<Flex>::load(&config, checkpoint.weights(), &Default::default()).unwrap();
    for (pair, _) in pairs(&golden) {
        let only =
            |answer: &Vec<u32>| EncodedPair { chosen: answer.clone(), rejected: vec![], ..pair.clone() };
        let (chosen, rejected) = (only(&pair.chosen), only(&pair.rejected));
        let [[_, shared_chosen, shared_rejected]] = score(&model, &checkpoint, &[&pair])[..] else {
            panic!()
        };
        let separate = score(&model, &checkpoint, &[&chosen, &rejected]);
        assert!(close(shared_chosen, separate[0][1], 1e-5), "{shared_chosen} against {}", separate[0][1]);
        assert!(close(shared_rejected, separate[1][1], 1e-5), "{shared_rejected} against {}", separate[1][1]);
    }
}
