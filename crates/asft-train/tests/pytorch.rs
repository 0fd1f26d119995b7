//! Four AdamW steps against PyTorch in f64 (`goldens/training.py`), whatever the segments and micro-batches.

use std::path::{Path, PathBuf};

use asft_core::PairScores;
use asft_train::{Job, RunConfig, Trainer};
use burn::backend::{Autodiff, Flex};
use serde_json::{Value, json};

type A = Autodiff<Flex>;

fn goldens() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/training.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../asft-model/tests/goldens").join(name)
}

/// The trainer of a golden run.
fn trainer(golden: &Value, segments: usize, micro_batch_tokens: usize) -> Trainer<'static, A> {
    let directory = checkpoint(golden["checkpoint"].as_str().unwrap());
    let pairs = json!(directory.join("pairs.jsonl"));
    let config = format!(
        "[model]\npath = {}\n[data]\ntrain = [{pairs}]\neval = [{pairs}]\nshuffle = false\n\
         [optimizer]\nlearning_rate = 1e-3\nweight_decay = 0.1\n[schedule]\nwarmup_ratio = 0.25\n\
         [train]\noutput = \"unused\"\nepochs = 2\npairs_per_step = 4\nsegments = {segments}\n\
         micro_batch_tokens = {micro_batch_tokens}\n",
        json!(directory)
    );
    let mut assignments = vec![];
    let objective = golden["objective"].as_str().unwrap();
    for (key, value) in golden["keys"].as_object().unwrap() {
        assignments.push(format!("objective.{objective}.{key}={value}"));
    }
    let config = RunConfig::parse(&config, "test", Some(objective), &assignments).unwrap();
    let job = Job::read(config).unwrap();
    assert_eq!(job.total_steps, 4);
    Trainer::new(job, None, Box::leak(Box::default())).unwrap()
}

fn close(what: &str, got: f64, expected: f64, relative: f64) {
    let error = (got - expected).abs() / expected.abs().max(1e-3);
    assert!(error <= relative, "{what}: {got} against {expected}, off by {error:.1e}");
}

/// Loss, gradient norm, rate and log-probs of each step.
fn steps(trainer: &mut Trainer<'_, A>) -> Vec<[f64; 5]> {
    let step = |trainer: &mut Trainer<'_, A>| {
        let row = trainer.make_step().unwrap();
        let metrics = row.metrics;
        [
            metrics.loss,
            row.grad_norm.unwrap(),
            row.learning_rate.unwrap(),
            metrics.logps_chosen,
            metrics.logps_rejected.unwrap(),
        ]
    };
    (0..4).map(|_| step(trainer)).collect()
}

const KEYS: [&str; 5] = ["loss", "grad_norm", "learning_rate", "logps_chosen", "logps_rejected"];

#[test]
fn four_steps_are_those_of_pytorch() {
    let goldens = goldens();
    let runs = goldens["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 10);
    for golden in runs {
        let name = format!("{} {} {}", golden["checkpoint"], golden["objective"], golden["keys"]);
        let mut trainer = trainer(golden, 1, 8192);
        let got = steps(&mut trainer);
        for (index, (got, expected)) in got.iter().zip(golden["steps"].as_array().unwrap()).enumerate() {
            for (got, key) in got.iter().zip(KEYS) {
                close(&format!("{name}, step {index}, {key}"), *got, expected[key].as_f64().unwrap(), 1e-3);
            }
        }
        let (_, scored) = trainer.evaluate(usize::MAX, |_| true).unwrap().unwrap();
        for (scored, expected) in scored.iter().zip(golden["after"].as_array().unwrap()) {
            let PairScores { chosen, rejected, .. } = &scored.scores;
            close(
                &format!("{name}, after"),
                chosen.logp_sum,
                expected["logp_sum_chosen"].as_f64().unwrap(),
                1e-3,
            );
            close(
                &format!("{name}, after"),
                rejected.unwrap().logp_sum,
                expected["logp_sum_rejected"].as_f64().unwrap(),
                1e-3,
            );
        }
    }
}

#[test]
fn segments_and_micro_batches_change_nothing() {
    let goldens = goldens();
    for golden in goldens["runs"].as_array().unwrap() {
        let reference = steps(&mut trainer(golden, 1, 8192));
        for (segments, micro_batch_tokens) in [(2, 8192), (1, 1), (2, 300)] {
            let other = steps(&mut trainer(golden, segments, micro_batch_tokens));
            for (step, (reference, other)) in reference.iter().zip(&other).enumerate() {
                for (key, (reference, other)) in KEYS.iter().zip(reference.iter().zip(other)) {
                    let name = format!(
                        "{} {}, {segments} segments, {micro_batch_tokens} tokens, step {step}, {key}",
                        golden["objective"], golden["keys"]
                    );
                    close(&name, *other, *reference, 1e-5);
                }
            }
        }
    }
}
