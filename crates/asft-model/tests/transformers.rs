//! Log-probs of tiny random checkpoints against transformers in f64 (`goldens/tiny_models.py`).
#![cfg(feature = "flex")]

mod scoring;

use asft_data::EncodedPair;
use asft_model::{Llama, checkpoint::Checkpoint};
use burn::backend::Flex;
use scoring::{close, golden, pairs, score};

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
