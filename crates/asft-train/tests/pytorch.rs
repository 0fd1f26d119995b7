//! Four AdamW steps against PyTorch in f64 (`goldens/training.py`), whatever the segments and micro-batches.

use std::path::{Path, PathBuf};

use asft_core::{Objective, PairScores};
use asft_train::{Alone, Job, Reference, RunConfig, Trainer};
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

/// The trainer of a golden run, with the reference model in every step.
fn trainer(golden: &Value, segments: usize, micro_batch_tokens: usize) -> Trainer<'static, A> {
    let online = [r#"reference.mode="online""#.to_owned()];
    trainer_with(&online, golden, segments, micro_batch_tokens).0
}

/// Steps of a golden run with settings changed.
fn changed(golden: &Value, settings: &[&str], segments: usize, micro_batch_tokens: usize) -> Vec<[f64; 5]> {
    let online = [r#"reference.mode="online""#.to_owned()];
    let settings: Vec<String> =
        online.into_iter().chain(settings.iter().map(|setting| (*setting).to_owned())).collect();
    steps(&mut trainer_with(&settings, golden, segments, micro_batch_tokens).0)
}

/// The trainer of a golden run, and how many pairs the reference model scored before it.
fn trainer_with(
    assignments: &[String],
    golden: &Value,
    segments: usize,
    micro_batch_tokens: usize,
) -> (Trainer<'static, A>, usize) {
    let directory = checkpoint(golden["checkpoint"].as_str().unwrap());
    let pairs = json!(directory.join("pairs.jsonl"));
    let config = format!(
        "[model]\npath = {}\n[data]\ntrain = [{pairs}]\neval = [{pairs}]\nshuffle = false\n\
         [optimizer]\nlearning_rate = 1e-3\nweight_decay = 0.1\n[schedule]\nwarmup_ratio = 0.25\n\
         [train]\noutput = \"unused\"\nepochs = 2\npairs_per_step = 4\nsegments = {segments}\n\
         micro_batch_tokens = {micro_batch_tokens}\n",
        json!(directory)
    );
    let mut assignments = assignments.to_vec();
    let objective = golden["objective"].as_str().unwrap();
    for (key, value) in golden["keys"].as_object().unwrap() {
        assignments.push(format!("objective.{objective}.{key}={value}"));
    }
    let config = RunConfig::parse(&config, "test", Some(objective), &assignments).unwrap();
    let mut job = Job::read(config).unwrap();
    assert_eq!(job.total_steps, 4);
    let device = Box::leak(Box::default());
    let mut scored = 0;
    let go_on = |done, _| {
        scored = done;
        true
    };
    let reference = Reference::prepare(&mut job, &Alone, device, go_on).unwrap().unwrap();
    (Trainer::new(job, reference, None, &Alone, device).unwrap(), scored)
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
    assert_eq!(runs.len(), 23);
    for name in Objective::NAMES {
        assert!(runs.iter().any(|run| run["objective"] == *name), "{name} has no run");
    }
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

fn assert_alike(name: &str, one: &[[f64; 5]], other: &[[f64; 5]]) {
    for (step, (one, other)) in one.iter().zip(other).enumerate() {
        for (key, (one, other)) in KEYS.iter().zip(one.iter().zip(other)) {
            close(&format!("{name}, step {step}, {key}"), *other, *one, 1e-5);
        }
    }
}

#[test]
fn gradients_applied_in_the_backward_pass_train_alike() {
    let goldens = goldens();
    for golden in goldens["runs"].as_array().unwrap() {
        let at_once = changed(golden, &["optimizer.max_grad_norm=0"], 1, 8192);
        for (segments, micro_batch_tokens) in [(2, 8192), (2, 300), (1, 300)] {
            let settings = ["optimizer.max_grad_norm=0", "optimizer.in_backward=true"];
            let by_block = changed(golden, &settings, segments, micro_batch_tokens);
            let name = format!("{} {}, {segments} segments", golden["objective"], golden["keys"]);
            assert_alike(&name, &at_once, &by_block);
        }
    }
}

/// AdamW hardly feels a factor of all gradients unless they come near its eps, so the norm they are clipped to is tiny here.
#[test]
fn in_the_backward_pass_the_first_step_is_clipped_by_its_own_norm_and_the_next_by_that_one() {
    let goldens = goldens();
    for golden in goldens["runs"].as_array().unwrap() {
        let name = golden["objective"].as_str().unwrap();
        let with = |max_norm: f64, others: &[&str]| {
            let max_norm = format!("optimizer.max_grad_norm={max_norm:e}");
            let constant = ["schedule.warmup_ratio=0", r#"schedule.kind="constant""#, &max_norm];
            changed(golden, &[&constant, others].concat(), 2, 300)
        };
        let (at_once, by_block) = (with(1e-7, &[]), with(1e-7, &["optimizer.in_backward=true"]));
        assert_alike(name, &at_once[..2], &by_block[..2]);
        // After the first step, the loss is another than without clipping.
        let unclipped = with(0.0, &["optimizer.in_backward=true"]);
        let moved = |run: &[[f64; 5]]| run[1][3] - at_once[1][3];
        assert!(moved(&unclipped).abs() > 1e-3, "{name}: {} {}", unclipped[1][3], at_once[1][3]);
        // The second is clipped by the first one's norm: as if its own were that.
        let ratio = at_once[1][1] / at_once[0][1];
        assert!((ratio - 1.0).abs() > 1e-3, "{name}: the norms are too much alike to tell");
        assert_ne!(at_once[2][3], by_block[2][3], "{name}");
        // But it is clipped: it strays from its own norm's clipping by far less than without any.
        let strayed = |run: &[[f64; 5]]| (run[2][3] - at_once[2][3]).abs();
        assert!(strayed(&by_block) < 0.1 * strayed(&unclipped), "{name}: {:?} {unclipped:?}", by_block);
    }
}

#[test]
fn precomputed_and_online_references_train_alike() {
    let goldens = goldens();
    let cache = tempfile::tempdir().unwrap();
    let precomputed = [format!("reference.cache={}", json!(cache.path()))];
    // The eight pairs of the first run serve the others, and the held-out ones are the same.
    let mut expected_scored = 8;
    for name in ["dpo", "ipo", "kto"] {
        let golden = goldens["runs"].as_array().unwrap().iter().find(|run| run["objective"] == name).unwrap();
        let mut online = trainer(golden, 1, 8192);
        let (mut kept, scored) = trainer_with(&precomputed, golden, 1, 300);
        assert_eq!(scored, expected_scored, "{name}");
        expected_scored = 0;
        for (step, (online, kept)) in steps(&mut online).iter().zip(steps(&mut kept)).enumerate() {
            for (key, (online, kept)) in KEYS.iter().zip(online.iter().zip(kept)) {
                close(&format!("{name}, step {step}, {key}"), kept, *online, 1e-5);
            }
        }
        let metrics = [online, kept].map(|trainer| {
            let (row, scored) = trainer.evaluate(usize::MAX, |_| true).unwrap().unwrap();
            assert!(scored.iter().all(|pair| pair.scores.chosen.ref_logp_sum.is_some()));
            row.metrics
        });
        close(name, metrics[0].rewards_margin.unwrap(), metrics[1].rewards_margin.unwrap(), 1e-5);
        assert!(metrics[0].rewards_margin.unwrap() > 0.0, "{name}");
    }
}

#[test]
fn a_stopped_first_pass_keeps_what_it_has() {
    let goldens = goldens();
    let golden = goldens["runs"].as_array().unwrap().iter().find(|run| run["objective"] == "dpo").unwrap();
    let cache = tempfile::tempdir().unwrap();
    let directory = checkpoint(golden["checkpoint"].as_str().unwrap());
    let config = format!(
        "[model]\npath = {}\n[data]\ntrain = [{}]\n[objective.dpo]\n[reference]\ncache = {}\n\
         [train]\noutput = \"unused\"\nmicro_batch_tokens = 1\n",
        json!(directory),
        json!(directory.join("pairs.jsonl")),
        json!(cache.path())
    );
    let mut calls = vec![];
    for stop_at in [3, usize::MAX] {
        let mut job = Job::read(RunConfig::parse(&config, "test", None, &[]).unwrap()).unwrap();
        let reference = Reference::<Flex>::prepare(&mut job, &Alone, &Default::default(), |done, total| {
            calls.push((done, total));
            done < stop_at
        });
        assert_eq!(reference.unwrap().is_some(), stop_at == usize::MAX);
    }
    assert_eq!(calls, [(1, 8), (2, 8), (3, 8), (1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
}
