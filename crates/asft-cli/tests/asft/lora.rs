//! Runs that train adapters, and what other commands make of them.

use std::path::Path;

use serde_json::Value;

use crate::support::{Scratch, stderr, tiny};

const LORA: &str = "[lora]\nrank = 4\n";

/// Trains an adapter on a copy of the tiny model, which lies at `base`.
fn trained() -> Scratch {
    let scratch = Scratch::new();
    scratch.copy_of("llama3", "base");
    scratch.config(LORA);
    scratch.ok(&["train", "--config", "config.toml", "--set", "model.path=base"]);
    scratch
}

/// Log-prob sums of the tiny model's pairs under `model`.
fn sums(scratch: &Scratch, model: &str) -> Vec<f64> {
    sums_with(scratch, model, &[])
}

fn sums_with(scratch: &Scratch, model: &str, more: &[&str]) -> Vec<f64> {
    let data = tiny("llama3").join("pairs.jsonl");
    let arguments = ["score", "--model", model, "--data", data.to_str().unwrap(), "--output", "out.jsonl"];
    scratch.ok(&[&arguments[..], more].concat());
    let text = std::fs::read_to_string(scratch.path("out.jsonl")).unwrap();
    let sums = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        ["chosen", "rejected"].map(|side| line[side]["logp_sum"].as_f64().unwrap())
    };
    text.lines().flat_map(sums).collect()
}

#[track_caller]
fn close(got: &[f64], expected: &[f64], relative: f64) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= relative * expected.abs(), "{got} against {expected}");
    }
}

/// Holds what a run wrote of its held-out pairs against the sums of all pairs.
#[track_caller]
fn evaluated(scratch: &Scratch, file: &str, sums: &[f64], relative: f64) {
    for line in std::fs::read_to_string(scratch.path(file)).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let row = line["index"].as_u64().unwrap() as usize;
        let evaluated = ["chosen", "rejected"].map(|side| line[side]["logp_sum"].as_f64().unwrap());
        close(&sums[2 * row..][..2], &evaluated, relative);
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn refused(scratch: &Scratch, arguments: &[&str], expected: &[&str]) {
    let output = scratch.run(arguments);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    assert!(expected.iter().all(|part| message.contains(part)), "{arguments:?}: {message}");
}

#[test]
fn an_adapter_is_scored_merged_exported_and_trained_on() {
    let scratch = trained();
    let written = [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
        "optimizer.safetensors",
        "state.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&scratch.path("run/latest")), written);
    let config = std::fs::read_to_string(scratch.path("run/latest/adapter_config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["base_model_name_or_path"], "base");

    let (base, run) = (sums(&scratch, "base"), sums(&scratch, "run"));
    assert!(base.iter().zip(&run).any(|(base, run)| (base - run).abs() > 1e-3 * base.abs()));
    evaluated(&scratch, "run/evaluations/step-18.jsonl", &run, 1e-5);

    scratch.ok(&["export", "--run", "run", "--output", "merged"]);
    assert!(scratch.path("merged/model.safetensors").is_file());
    close(&sums(&scratch, "merged"), &run, 1e-4);
    scratch.ok(&["export", "--run", "run", "--adapter", "--output", "adapter"]);
    let files =
        ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(&scratch.path("adapter")), files);
    assert_eq!(sums(&scratch, "adapter"), run);
    let weights = |path: &str| std::fs::read(scratch.path(path).join("adapter_model.safetensors")).unwrap();
    assert_eq!(weights("adapter"), weights("run/latest"));
    let say = |model| {
        scratch.ok(&["generate", "--model", model, "--prompt", "Which bird?", "--max-new-tokens", "5"])
    };
    assert_eq!(say("adapter"), say("merged"));

    // The adapter goes on; or all weights do, starting as the merged ones; or an adapter of the merged model.
    for (path, output, more) in [
        ("adapter", "further", vec![]),
        ("run", "whole", vec!["config-whole.toml"]),
        ("merged", "anew", vec!["config.toml", "--set", "lora.rank=2"]),
    ] {
        let whole = std::fs::read_to_string(scratch.path("config.toml")).unwrap().replace(LORA, "");
        scratch.write("config-whole.toml", whole);
        let model = format!("model.path={path}");
        let (file, more) = more.split_first().unwrap_or((&"config.toml", &[]));
        let arguments =
            ["train", "--config", file, "--set", &model, "--set", "train.max_steps=2", "--output", output];
        scratch.ok(&[&arguments[..], more].concat());
        evaluated(&scratch, &format!("{output}/evaluations/step-0.jsonl"), &run, 1e-4);
    }
    let config = std::fs::read_to_string(scratch.path("further/latest/adapter_config.json")).unwrap();
    assert!(config.contains("\"base_model_name_or_path\": \"base\""), "{config}");
    assert!(scratch.path("whole/latest/model.safetensors").is_file());
}

/// The run's own scores need its codes; without them the adapter is beside the weights as they are stored.
#[test]
fn a_quantized_base_is_scored_as_it_was_trained_on() {
    let scratch = Scratch::new();
    scratch.config(&format!("{LORA}quantization = \"nf4\"\n"));
    scratch.ok(&["train", "--config", "config.toml"]);
    let codes = sums_with(&scratch, "run", &["--quantization", "nf4"]);
    evaluated(&scratch, "run/evaluations/step-18.jsonl", &codes, 1e-5);
    assert_ne!(codes, sums(&scratch, "run"));
    let resumed = ["train", "--config", "config.toml", "--resume", "--set", "lora.quantization=int8"];
    refused(&scratch, &resumed, &["lora.quantization was \"nf4\" when the run started and is \"int8\" now"]);
}

#[test]
fn a_base_that_is_gone_or_another_is_named() {
    let scratch = trained();
    let score = ["score", "--model", "run", "--data", "pairs.jsonl", "--output", "out.jsonl"];
    std::fs::rename(scratch.path("base"), scratch.path("elsewhere")).unwrap();
    refused(&scratch, &score, &["base_model_name_or_path: no model is at \"base\"", "hint: "]);
    // A run goes on with its model wherever that is, and with no other.
    let resume = ["train", "--config", "config.toml", "--resume", "--set"];
    scratch.ok(&[&resume[..], &["model.path=elsewhere"]].concat());
    scratch.copy_of("head_dim", "base");
    refused(&scratch, &score, &["base is not the model that this adapter was trained on", "hint: "]);
    let expected = ["the model under the adapters is not the one", "hint: "];
    refused(&scratch, &[&resume[..], &["model.path=base"]].concat(), &expected);
}

#[test]
fn what_cannot_be_trained_is_refused_before_it_starts() {
    let scratch = Scratch::new();
    scratch.config(LORA);
    let cases: [(&[&str], &[&str]); 7] = [
        (&["lora.quantization=fp4"], &["lora.quantization", "expected `int8` or `nf4`"]),
        (
            &["lora.target_modules=[\"q_proj\", \"lm_head\"]"],
            &["lora.target_modules", "\"lm_head\"", "hint: known are q_proj, k_proj"],
        ),
        (&["lora.target_modules=[]"], &["lora.target_modules: must name"]),
        (&["lora.rank=0"], &["lora.rank: must be from 1"]),
        (&["lora.alpha=0"], &["lora.alpha: must be above 0"]),
        (&["lora.dropout=1.0"], &["lora.dropout: must be from 0"]),
        (&["lora.ranks=4"], &["lora.ranks: unknown key", "hint: did you mean rank?"]),
    ];
    for (assignments, expected) in cases {
        let mut arguments = vec!["train", "--config", "config.toml"];
        assignments.iter().for_each(|assignment| arguments.extend(["--set", assignment]));
        refused(&scratch, &arguments, expected);
        assert!(!scratch.path("run").exists());
    }
    refused(&scratch, &["train", "--set", "lora.rank=4"], &["embedded:quickstart", "hint: leave [lora] out"]);
    let model = tiny("llama3");
    let export = ["export", "--model", model.to_str().unwrap(), "--adapter", "--output", "adapter"];
    refused(&scratch, &export, &["has no adapter", "hint: "]);
    assert!(!scratch.path("adapter").exists());
}

#[test]
fn the_plan_counts_what_is_trained() {
    let scratch = Scratch::new();
    scratch.config(LORA);
    let plan = scratch.ok(&["train", "--config", "config.toml", "--dry-run", "--json"]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    // Two layers, rank 4, each with in + out of q, o 32 + 32, k, v 32 + 16, gate, up, down 32 + 64.
    let trained = 2 * 4 * (2 * 64 + 2 * 48 + 3 * 96);
    assert_eq!(plan["trained_parameters"], trained);
    assert_eq!(plan["memory"]["optimizer_bytes"], 8 * trained);
}
