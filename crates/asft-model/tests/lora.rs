//! Adapters against PEFT in f64 (`goldens/lora.py`), and the files that we write against PEFT's own.
#![cfg(feature = "flex")]

mod scoring;

use std::path::{Path, PathBuf};

use asft_model::{
    Llama, LoraConfig, ModelError, Projection, Quantization, WeightType,
    checkpoint::{Checkpoint, PeftAdapter, SafetensorsFile, SavedModel, write_adapter},
    lora::FreshAdapter,
    quantization::Quantized,
};
use burn::backend::Flex;
use scoring::{close, golden, pairs, score};
use serde_json::{Value, json};

const NAMES: [&str; 2] = ["all", "some"];

fn adapter(name: &str) -> PathBuf {
    golden("lora").join(name)
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A copy of a golden adapter that names the golden base, with `change` made to its config.
fn copy(name: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut config = read(&adapter(name).join("adapter_config.json"));
    config["base_model_name_or_path"] = json!(golden("llama31_tied"));
    change(&mut config);
    std::fs::write(directory.path().join("adapter_config.json"), config.to_string()).unwrap();
    let weights = "adapter_model.safetensors";
    std::fs::copy(adapter(name).join(weights), directory.path().join(weights)).unwrap();
    directory
}

fn load(directory: &Path) -> Llama<Flex> {
    load_quantized(directory, None)
}

fn load_quantized(directory: &Path, quantization: Option<Quantization>) -> Llama<Flex> {
    SavedModel::open(directory).unwrap().load(WeightType::F32, quantization, &Default::default()).unwrap()
}

/// Holds a model's log-prob sums of the golden pairs against some of `expected.json`.
fn check(name: &str, model: &Llama<Flex>, expected: &Value) {
    let (checkpoint, _) = base();
    let pairs = pairs(&golden("llama31_tied"));
    let all: Vec<_> = pairs.iter().map(|(pair, _)| pair).collect();
    for (index, got) in score(model, &checkpoint, &all).iter().enumerate() {
        let keys = ["logp_sum_prompt", "logp_sum_chosen", "logp_sum_rejected"];
        for (got, key) in got.iter().zip(keys) {
            let expected = expected[index][key].as_f64().unwrap();
            assert!(close(*got, expected, 1e-4), "{name}, pair {index}, {key}: {got} against {expected}");
        }
    }
}

fn base() -> (Checkpoint, Llama<Flex>) {
    let mut checkpoint = Checkpoint::open(&golden("llama31_tied")).unwrap();
    let config = checkpoint.config().clone();
    let model = Llama::load(&config, checkpoint.weights(), &Default::default()).unwrap();
    (checkpoint, model)
}

#[test]
fn adapted_and_merged_models_score_as_with_peft() {
    let (checkpoint, base) = base();
    let pairs = pairs(&golden("llama31_tied"));
    let all: Vec<_> = pairs.iter().map(|(pair, _)| pair).collect();
    let without = score(&base, &checkpoint, &all);
    for name in NAMES {
        let directory = copy(name, |_| {});
        let model = load(directory.path());
        let expected = read(&adapter(name).join("expected.json"));
        check(&format!("{name}, adapted"), &model, &expected["pairs"]);
        check(&format!("{name}, merged"), &model.clone().merged(), &expected["pairs"]);
        assert_eq!(score(&model.without_adapters(), &checkpoint, &all), without, "{name}, switched off");
    }
}

#[test]
fn what_is_written_is_what_peft_writes() {
    for name in NAMES {
        let directory = copy(name, |_| {});
        let saved = SavedModel::open(directory.path()).unwrap();
        let (lora, model) = (saved.adapter().unwrap().lora().clone(), load(directory.path()));
        let written = tempfile::tempdir().unwrap();
        let path = written.path();
        write_adapter(path, &lora, "llama31_tied", &model, &[("added.json".to_owned(), b"{}".to_vec())])
            .unwrap();
        let (mut ours, mut theirs) =
            (read(&path.join("adapter_config.json")), read(&adapter(name).join("adapter_config.json")));
        for config in [&mut ours, &mut theirs] {
            // A set, which PEFT writes in any order.
            let modules = config["target_modules"].as_array_mut().unwrap();
            modules.sort_by_key(|module| module.to_string());
        }
        assert_eq!(ours, theirs, "{name}");
        let open =
            |directory: &Path| SafetensorsFile::open(&directory.join("adapter_model.safetensors")).unwrap();
        let (ours, theirs) = (open(path), open(&adapter(name)));
        assert_eq!(ours.names().unwrap(), theirs.names().unwrap(), "{name}");
        for tensor in theirs.names().unwrap() {
            let shape = theirs.shape(&tensor).unwrap();
            assert_eq!(
                ours.values(&tensor, &shape).unwrap(),
                theirs.values(&tensor, &shape).unwrap(),
                "{tensor}"
            );
        }
        assert!(path.join("added.json").is_file());
    }
}

#[test]
fn a_fresh_adapter_changes_nothing() {
    let (checkpoint, base) = base();
    let pairs = pairs(&golden("llama31_tied"));
    let all: Vec<_> = pairs.iter().map(|(pair, _)| pair).collect();
    let expected = score(&base, &checkpoint, &all);
    let model = base.with_adapters(&LoraConfig::default(), &mut FreshAdapter::new(42)).unwrap();
    assert_eq!(score(&model, &checkpoint, &all), expected);
}

#[test]
fn what_cannot_be_applied_is_refused_by_name() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 9] = [
        (|config| config["peft_type"] = json!("IA3"), "peft_type: is \"IA3\""),
        (|config| config["use_dora"] = json!(true), "use_dora: is true"),
        (|config| config["use_rslora"] = json!(true), "use_rslora: is true"),
        (|config| config["rank_pattern"] = json!({"q_proj": 2}), "rank_pattern"),
        (|config| config["modules_to_save"] = json!(["lm_head"]), "modules_to_save"),
        (|config| config["bias"] = json!("all"), "bias: is \"all\""),
        (|config| config["init_lora_weights"] = json!("pissa"), "init_lora_weights: is \"pissa\""),
        (|config| config["r"] = json!(0), "r: must be at least 1"),
        (
            |config| config["base_model_name_or_path"] = json!("nowhere/else"),
            "no model is at \"nowhere/else\"\nhint: ",
        ),
    ];
    for (change, expected) in cases {
        let directory = copy("all", change);
        let error = SavedModel::open(directory.path()).err().unwrap().to_string();
        assert!(error.contains("adapter_config.json") && error.contains(expected), "{error}");
    }
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    // Another rank, another width, another number of layers.
    let cases: [(&str, usize); 2] = [("llama31_tied", 5), ("head_dim", 4)];
    for (base, rank) in cases {
        let directory = copy("all", |config| {
            config["base_model_name_or_path"] = json!(golden(base));
            config["r"] = json!(rank);
        });
        let mut saved = SavedModel::open(directory.path()).unwrap();
        let error = saved.load::<Flex>(WeightType::F32, None, &Default::default()).err().unwrap();
        assert!(matches!(error, ModelError::Tensor { .. }), "{base}: {error}");
    }
    let (_, mut model) = self::base();
    model.model.layers.pop();
    let directory = copy("some", |_| {});
    let mut adapter = PeftAdapter::open(directory.path()).unwrap();
    let lora = adapter.lora().clone();
    assert_eq!(lora.target_modules, [Projection::KProj, Projection::OProj, Projection::DownProj].into());
    let error = model.with_adapters(&lora, &mut adapter).unwrap_err().to_string();
    assert!(error.contains("model.layers.1.") && error.contains("hint: "), "{error}");
}

#[test]
fn adapters_on_a_quantized_base_score_as_in_pytorch() {
    for name in NAMES {
        let directory = copy(name, |_| {});
        let expected = read(&adapter(name).join("expected.json"));
        for quantization in [Quantization::Int8, Quantization::Nf4] {
            let (kind, model) = (quantization.name(), load_quantized(directory.path(), Some(quantization)));
            let expected = &expected["quantized_base"][kind];
            check(&format!("{name}, {kind}"), &model, expected);
            check(&format!("{name}, {kind}, merged"), &model.merged(), expected);
        }
    }
}

#[test]
fn normal_floats_are_the_quantiles_that_they_are_named_after() {
    let expected = read(&adapter("all").join("expected.json"));
    let matrix = Quantized::<Flex>::new(Quantization::Nf4, &[0.0; 64], [8, 8], &Default::default());
    let got: Vec<f32> = matrix.code_book.into_data().to_vec().unwrap();
    let expected: Vec<f64> =
        expected["nf4"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.into_iter().zip(expected) {
        assert!((f64::from(got) - expected).abs() < 5e-7, "{got} against {expected}");
    }
}
