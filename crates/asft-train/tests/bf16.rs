//! Four AdamW steps in bf16, and through LibTorch, against the same steps on Flex in f32, which are those of PyTorch in f64.
#![cfg(feature = "flex")]

use std::path::Path;

use asft_model::TrainBackend;
use asft_train::{Alone, Job, Reference, RunConfig, Trainer};
use burn::backend::{Autodiff, Flex};
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

fn check<A: TrainBackend>(dtype: &str, tolerance: f64) {
    for checkpoint in ["llama3", "llama31_tied"] {
        let expected = steps::<Autodiff<Flex>>(checkpoint, "f32", 1);
        for segments in [1, 2] {
            let got = steps::<A>(checkpoint, dtype, segments);
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
    let again = || steps::<A>("llama3", dtype, 2);
    assert_eq!(again(), again());
}

#[test]
fn four_steps_of_flex_in_bf16_are_those_in_f32() {
    check::<Autodiff<Flex>>("bf16", 2e-2);
}

#[cfg(feature = "tch")]
#[test]
fn four_steps_through_torch_are_those_of_flex() {
    check::<Autodiff<burn::backend::LibTorch>>("f32", 1e-3);
    check::<Autodiff<burn::backend::LibTorch>>("bf16", 2e-2);
}
