//! Four AdamW steps through LibTorch against the same steps on Flex, which are those of PyTorch in f64.
#![cfg(all(feature = "tch", feature = "flex"))]

use std::path::Path;

use asft_model::TrainBackend;
use asft_train::{Alone, Job, Reference, RunConfig, Trainer};
use burn::backend::{Autodiff, Flex, LibTorch};
use serde_json::json;

/// Loss, gradient norm and log-probs of four steps of ASFT on a tiny checkpoint.
fn steps<A: TrainBackend>(checkpoint: &str, dtype: &str, segments: usize) -> Vec<[f64; 4]> {
    let directory =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../asft-model/tests/goldens").join(checkpoint);
    let pairs = json!(directory.join("pairs.jsonl"));
    let config = format!(
        "[model]\npath = {}\ndtype = \"{dtype}\"\n[data]\ntrain = [{pairs}]\nshuffle = false\n[objective.asft]\n\
         [optimizer]\nlearning_rate = 1e-3\nweight_decay = 0.1\n[schedule]\nwarmup_ratio = 0.25\n\
         [train]\noutput = \"unused\"\nepochs = 2\npairs_per_step = 4\nsegments = {segments}\n",
        json!(directory)
    );
    let job = Job::read(RunConfig::parse(&config, "test", None, &[]).unwrap()).unwrap();
    let device = Default::default();
    let mut trainer = Trainer::<A>::new(job, Reference::None, None, &Alone, &device).unwrap();
    let mut step = || {
        let row = trainer.make_step().unwrap();
        let metrics = row.metrics;
        [metrics.loss, row.grad_norm.unwrap(), metrics.logps_chosen, metrics.logps_rejected.unwrap()]
    };
    (0..4).map(|_| step()).collect()
}

#[test]
fn four_steps_are_those_of_flex() {
    for checkpoint in ["llama3", "llama31_tied"] {
        let expected = steps::<Autodiff<Flex>>(checkpoint, "f32", 1);
        for (dtype, tolerance) in [("f32", 1e-3), ("bf16", 2e-2)] {
            for segments in [1, 2] {
                let got = steps::<Autodiff<LibTorch>>(checkpoint, dtype, segments);
                for (step, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    for (part, (got, expected)) in got.iter().zip(expected).enumerate() {
                        assert!(
                            (got - expected).abs() <= tolerance * expected.abs(),
                            "{checkpoint}, {dtype}, {segments} segments, step {step}, part {part}: {got} against {expected}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn bf16_steps_are_the_same_again() {
    let run = || steps::<Autodiff<LibTorch>>("llama3", "bf16", 2);
    assert_eq!(run(), run());
}
