//! Training of adapters: four AdamW steps against PyTorch and PEFT in f64 (`goldens/lora.py`), whatever the segments
//! and micro-batches, and nothing but adapters.

use std::path::{Path, PathBuf};

use asft_model::{lora::peft_name, parameters};
use asft_train::{Alone, Job, Reference, RunConfig, Trainer};
use burn::{
    backend::{Autodiff, Flex},
    module::AutodiffModule,
};
use serde_json::{Value, json};

type A = Autodiff<Flex>;

const KEYS: [&str; 5] = ["loss", "grad_norm", "learning_rate", "logps_chosen", "logps_rejected"];

fn goldens(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../asft-model/tests/goldens").join(name)
}

fn runs() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/lora.json");
    let made: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    made["runs"].as_array().unwrap().clone()
}

/// A golden adapter that names the golden base.
fn start(name: &str) -> tempfile::TempDir {
    let (source, directory) = (goldens("lora").join(name), tempfile::tempdir().unwrap());
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(source.join("adapter_config.json")).unwrap()).unwrap();
    config["base_model_name_or_path"] = json!(goldens("llama31_tied"));
    std::fs::write(directory.path().join("adapter_config.json"), config.to_string()).unwrap();
    let weights = "adapter_model.safetensors";
    std::fs::copy(source.join(weights), directory.path().join(weights)).unwrap();
    directory
}

/// `[lora]` that goes on with a golden adapter.
fn lora(name: &str) -> &'static str {
    match name {
        "all" => "rank = 4\nalpha = 8",
        _ => "rank = 3\nalpha = 4.5\ntarget_modules = [\"k_proj\", \"o_proj\", \"down_proj\"]",
    }
}

fn config(model: &Path, lora: &str, objective: &str, more: &[String]) -> RunConfig {
    let pairs = json!(goldens("llama31_tied").join("pairs.jsonl"));
    let text = format!(
        "[model]\npath = {}\n[lora]\n{lora}\n[data]\ntrain = [{pairs}]\neval = [{pairs}]\nshuffle = false\n\
         [optimizer]\nlearning_rate = 1e-3\nweight_decay = 0.1\n[schedule]\nwarmup_ratio = 0.25\n\
         [train]\noutput = \"unused\"\nepochs = 2\npairs_per_step = 4\nsegments = 1\nmicro_batch_tokens = 8192\n",
        json!(model)
    );
    RunConfig::parse(&text, "test", Some(objective), more).unwrap()
}

fn trainer(config: RunConfig) -> Trainer<'static, A> {
    let mut job = Job::read(config).unwrap();
    let device = Box::leak(Box::default());
    let reference = Reference::prepare(&mut job, &Alone, device, |_, _| true).unwrap().unwrap();
    Trainer::new(job, reference, None, &Alone, device).unwrap()
}

/// The trainer of a golden run with more assignments.
fn golden_trainer(golden: &Value, more: &[&str]) -> Trainer<'static, A> {
    let (adapter, objective) = (golden["adapter"].as_str().unwrap(), golden["objective"].as_str().unwrap());
    let directory = start(adapter);
    let keys = golden["keys"].as_object().unwrap().iter();
    let mut assignments: Vec<String> =
        keys.map(|(key, value)| format!("objective.{objective}.{key}={value}")).collect();
    assignments.push(r#"reference.mode="online""#.to_owned());
    if let Some(quantization) = golden["quantization"].as_str() {
        assignments.push(format!("lora.quantization={quantization:?}"));
    }
    assignments.extend(more.iter().map(|&text| text.to_owned()));
    trainer(config(directory.path(), lora(adapter), objective, &assignments))
}

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

#[track_caller]
fn close(what: &str, got: f64, expected: f64, relative: f64) {
    let error = (got - expected).abs() / expected.abs().max(1e-3);
    assert!(error <= relative, "{what}: {got} against {expected}, off by {error:.1e}");
}

#[test]
fn four_steps_are_those_of_peft() {
    let runs = runs();
    assert_eq!(runs.len(), 7);
    for golden in &runs {
        let name = format!("{} {} {}", golden["adapter"], golden["objective"], golden["quantization"]);
        for (segments, micro_batch_tokens) in [(1, 8192), (2, 8192), (1, 1), (2, 300)] {
            let more = [
                format!("train.segments={segments}"),
                format!("train.micro_batch_tokens={micro_batch_tokens}"),
            ];
            let mut trainer = golden_trainer(golden, &more.each_ref().map(String::as_str));
            let got = steps(&mut trainer);
            for (index, (got, expected)) in got.iter().zip(golden["steps"].as_array().unwrap()).enumerate() {
                for (got, key) in got.iter().zip(KEYS) {
                    let name = format!(
                        "{name}, {segments} segments, {micro_batch_tokens} tokens, step {index}, {key}"
                    );
                    close(&name, *got, expected[key].as_f64().unwrap(), 1e-3);
                }
            }
            let (_, scored) = trainer.evaluate(usize::MAX, |_| true).unwrap().unwrap();
            for (scored, expected) in scored.iter().zip(golden["after"].as_array().unwrap()) {
                let sums = [scored.scores.chosen.logp_sum, scored.scores.rejected.unwrap().logp_sum];
                for (got, key) in sums.into_iter().zip(["logp_sum_chosen", "logp_sum_rejected"]) {
                    close(&format!("{name}, after"), got, expected[key].as_f64().unwrap(), 1e-3);
                }
            }
        }
    }
}

#[test]
fn precomputed_and_switched_off_references_train_alike() {
    for golden in runs().iter().filter(|golden| golden["objective"] == "dpo") {
        let cache = tempfile::tempdir().unwrap();
        let cached = format!("reference.cache={}", json!(cache.path()));
        let mut online = golden_trainer(golden, &[]);
        let mut kept = golden_trainer(golden, &[&cached, "reference.mode=\"precomputed\""]);
        assert_eq!(online.job().memory.reference, 0);
        let expected = steps(&mut online);
        let mut others = vec![("precomputed", steps(&mut kept))];
        if golden["quantization"].is_null() {
            // Named, the base model is a second one in memory, as it is stored.
            let named = format!("reference.path={}", json!(goldens("llama31_tied")));
            let mut beside = golden_trainer(golden, &[&named]);
            assert!(beside.job().memory.reference > 0);
            others.push(("named", steps(&mut beside)));
        }
        for (kind, other) in others {
            for (step, (other, expected)) in other.iter().zip(&expected).enumerate() {
                for (key, (other, expected)) in KEYS.iter().zip(other.iter().zip(expected)) {
                    close(&format!("{kind}, step {step}, {key}"), *other, *expected, 1e-5);
                }
            }
        }
    }
}

#[test]
fn nothing_but_adapters_changes_or_has_moments() {
    let base = goldens("llama31_tied");
    let mut trainer = trainer(config(&base, "rank = 2", "asft", &[]));
    let values = |trainer: &Trainer<'_, A>| {
        let mut found = std::collections::BTreeMap::new();
        parameters::for_each(&trainer.model().valid(), |path, values, _| {
            found.insert(path.to_owned(), values.into_data());
        });
        found
    };
    let before = values(&trainer);
    steps(&mut trainer);
    for (path, after) in values(&trainer) {
        assert_eq!(before[&path] != after, peft_name(&path).is_some(), "{path}");
    }
    let trained = before.keys().filter(|path| peft_name(path).is_some());
    assert_eq!(trainer.optimizer().moments().keys().collect::<Vec<_>>(), trained.collect::<Vec<_>>());
    assert_eq!(trainer.optimizer().moments().len(), 2 * 2 * 7);
}

/// Without `[lora]`, an adapter is part of the weights that are trained, and nothing is frozen.
#[test]
fn all_merged_weights_are_trained() {
    let directory = start("some");
    let mut config = config(directory.path(), lora("some"), "asft", &[]);
    config.lora = None;
    let mut trainer = trainer(config);
    let mut paths = vec![];
    parameters::for_each(&trainer.model().valid(), |path, _, _| paths.push(path.to_owned()));
    paths.sort();
    steps(&mut trainer);
    assert_eq!(trainer.optimizer().moments().keys().cloned().collect::<Vec<_>>(), paths);
    assert_eq!(paths.len(), 1 + 2 * 9 + 1);
}

/// Blocks that run twice drop the same inputs both times.
#[test]
fn dropout_is_the_same_in_blocks_that_run_again() {
    let base = goldens("llama31_tied");
    let run = |more: &[&str]| {
        let more: Vec<String> = more.iter().map(|&text| text.to_owned()).collect();
        steps(&mut trainer(config(&base, "rank = 4\ndropout = 0.25", "asft", &more)))
    };
    let expected = run(&["train.segments=1"]);
    for (step, (got, expected)) in run(&["train.segments=2"]).iter().zip(&expected).enumerate() {
        for (key, (got, expected)) in KEYS.iter().zip(got.iter().zip(expected)) {
            close(&format!("step {step}, {key}"), *got, *expected, 1e-5);
        }
    }
    let loss = |steps: &[[f64; 5]]| steps.iter().map(|step| step[0]).collect::<Vec<_>>();
    assert_eq!(loss(&run(&["train.segments=1"])), loss(&expected), "the same seed");
    assert_ne!(loss(&run(&["train.segments=1", "lora.dropout=0"])), loss(&expected));
    let seeded = run(&["train.segments=1", "train.seed=7"]);
    assert_ne!(loss(&seeded), loss(&expected));
}

#[test]
fn an_adapter_goes_on_only_as_it_is() {
    let directory = start("all");
    let error = Job::read(config(directory.path(), "rank = 8", "asft", &[])).err().unwrap();
    let error = error.to_string();
    assert!(error.contains("rank 4, alpha 8") && error.contains("hint: "), "{error}");
}
