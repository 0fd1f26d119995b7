//! Log-probs of tiny random checkpoints in bf16, and through LibTorch, against transformers in f64 (`goldens/tiny_models.py`).
#![cfg(feature = "flex")]

mod scoring;

use asft_model::{Llama, LlamaBackend, WeightType, checkpoint::Checkpoint};
use burn::backend::Flex;
use scoring::{close, golden, pairs, score};

fn check<B: LlamaBackend>(weight_type: WeightType, tolerance: f64) {
    for name in ["llama3", "llama31_tied", "head_dim", "sharded"] {
        let golden = golden(name);
        let mut checkpoint = Checkpoint::open(&golden).unwrap();
        let config = checkpoint.config().clone();
        let weights = checkpoint.weights();
        let model = Llama::<B>::load_as(weight_type, None, &config, weights, &Default::default()).unwrap();
        let pairs = pairs(&golden);
        assert_eq!(pairs.len(), 8);
        let all: Vec<_> = pairs.iter().map(|(pair, _)| pair).collect();
        let packed = score(&model, &checkpoint, &all);
        for (index, ((_, expected), packed)) in pairs.iter().zip(&packed).enumerate() {
            for (got, expected) in packed.iter().zip(expected) {
                assert!(
                    close(*got, *expected, tolerance),
                    "{name}, {weight_type:?}, pair {index}: {got} against {expected}"
                );
            }
        }
    }
}

// A bf16 number has 8 bits; what weights and layers lose by that mostly cancels over an answer's tokens.
#[test]
fn tiny_checkpoints_score_in_bf16_as_in_transformers() {
    check::<Flex>(WeightType::Bf16, 1e-2);
}

#[cfg(feature = "tch")]
#[test]
fn tiny_checkpoints_score_through_torch_as_in_transformers() {
    check::<burn::backend::LibTorch>(WeightType::F32, 1e-4);
    check::<burn::backend::LibTorch>(WeightType::Bf16, 1e-2);
}
