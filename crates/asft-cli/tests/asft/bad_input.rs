//! Bad input: exit code 2, one message that says what and where, and nothing half-written.

use std::path::Path;

use crate::support::{Scratch, stderr, tiny};
use serde_json::json;

/// Every path below a directory.
fn listing(directory: &Path) -> Vec<String> {
    let mut found = vec![];
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listing(&path));
        }
        found.push(path.display().to_string());
    }
    found.sort();
    found
}

/// Runs a command that must refuse its input with all of `expected` in its message, and write nothing.
fn refused(scratch: &Scratch, arguments: &[&str], expected: &[&str]) {
    let before = listing(scratch.0.path());
    let output = scratch.run(arguments);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}\n{message}");
    for expected in expected {
        assert!(message.contains(expected), "{arguments:?}: no {expected:?} in\n{message}");
    }
    assert!(!message.contains("panicked"), "{arguments:?}\n{message}");
    assert_eq!(
        message.lines().filter(|line| line.starts_with("error:")).count(),
        1,
        "{arguments:?}\n{message}"
    );
    assert_eq!(listing(scratch.0.path()), before, "{arguments:?} wrote something");
}

const TRAIN: [&str; 3] = ["train", "--config", "config.toml"];

#[test]
fn settings() {
    let cases: [(&str, &[&str]); 20] = [
        (
            "optimizer.learning_rat=1",
            &["command line: optimizer.learning_rat: unknown key", "did you mean learning_rate"],
        ),
        ("nonsense.key=1", &["nonsense: unknown key"]),
        ("optimizer.learning_rate=-1e-5", &["optimizer.learning_rate: must be from 0 to 1, got -0.00001"]),
        ("optimizer.learning_rate=\"fast\"", &["optimizer.learning_rate", "invalid type", "fast"]),
        ("optimizer.betas=[0.9]", &["optimizer.betas"]),
        ("optimizer.max_grad_norm=inf", &["optimizer.max_grad_norm: must be 0 (off) or a finite number"]),
        ("model.dtype=16", &["model.dtype: must be a string in quotes"]),
        ("train.pairs_per_step=0", &["train.pairs_per_step: must be at least 1, got 0"]),
        ("train.epochs=-1", &["train.epochs"]),
        ("train.segments=0", &["train.segments"]),
        ("train.collective_timeout=0", &["train.collective_timeout: must be at least 1"]),
        ("train.memory_budget=\"lots\"", &["train.memory_budget", "3 GB"]),
        ("objective.asft.beta=-1", &["objective.asft.beta: must be at least 0, got -1"]),
        ("objective.asft.gamma=1", &["objective.asft.gamma: unknown key"]),
        ("objective.dpoo.beta=1", &["objective: must hold exactly one table, found asft, dpoo"]),
        ("data.truncation=\"middle\"", &["data.truncation", "middle"]),
        ("data.template_date=\"yesterday\"", &["yesterday"]),
        ("data.eval=\"pairs.jsonl\"", &["data.eval_pairs", "data.eval", "what is held out"]),
        ("train.epochs=2305843009213693952", &["train.epochs: must be at most"]),
        ("data.train=3", &["data.train", "file names or globs"]),
    ];
    for (assignment, expected) in cases {
        let scratch = Scratch::new();
        scratch.config("");
        refused(&scratch, &[&TRAIN[..], &["--set", assignment]].concat(), expected);
    }
    let scratch = Scratch::new();
    refused(&scratch, &["train", "--config", "absent.toml"], &["absent.toml"]);
    scratch.config("[lora]\nrnk = 1\n");
    let other = [&TRAIN[..], &["--set", "train.epochs=1"]].concat();
    refused(&scratch, &other, &["config.toml: lora.rnk: unknown key"]);
    scratch.write("broken.toml", "[model\npath = 1");
    refused(&scratch, &["train", "--config", "broken.toml"], &["broken.toml", "line 1"]);
    scratch.config("");
    refused(&scratch, &[&TRAIN[..], &["--objective", "dpoo"]].concat(), &["dpoo", "asft"]);
    refused(&scratch, &[&TRAIN[..], &["--set", "epochs"]].concat(), &["--set epochs", "has no ="]);
}

#[test]
fn data() {
    let row =
        |rejected: &str| json!({"prompt": "Hi", "chosen": "Good morning", "rejected": rejected}).to_string();
    let good = row("no");
    let cases: [(&str, String, &[&str]); 8] = [
        ("broken.jsonl", format!("{good}\n{{\"prompt\": "), &["broken.jsonl:2", "malformed JSON"]),
        ("broken.json", "[{\"prompt\": \"a\",}]".into(), &["broken.json:1", "malformed JSON"]),
        ("other.jsonl", json!({"text": "hello"}).to_string(), &["other.jsonl", "text"]),
        (
            "kto.jsonl",
            json!({"messages": [{"role": "user", "content": "a"}], "label": true}).to_string(),
            &["kto.jsonl:1", "label"],
        ),
        (
            "half.jsonl",
            format!("{good}\n{good}\n{}", json!({"prompt": "a", "chosen": "b"})),
            &["half.jsonl:3", "rejected"],
        ),
        ("empty.jsonl", format!("{}\n{}", row(" "), row("")), &["empty_rejected 2"]),
        ("nothing.jsonl", String::new(), &["nothing.jsonl"]),
        ("cut.parquet", "PAR1 and then nothing".into(), &["cut.parquet"]),
    ];
    for (name, contents, expected) in cases {
        let scratch = Scratch::new();
        scratch.config("");
        scratch.write(name, contents);
        refused(&scratch, &[&TRAIN[..], &["--set", &format!("data.train={name}")]].concat(), expected);
        let model = crate::support::tiny("llama3");
        let score = ["score", "--model", model.to_str().unwrap(), "--data", name, "--output", "out.jsonl"];
        refused(&scratch, &score, expected);
    }
    let scratch = Scratch::new();
    scratch.config("");
    refused(&scratch, &[&TRAIN[..], &["--set", "data.train=absent.jsonl"]].concat(), &["absent.jsonl"]);
    refused(&scratch, &[&TRAIN[..], &["--set", "data.train=*.parquet"]].concat(), &["*.parquet"]);
    scratch.write("sft.jsonl", json!({"instruction": "a", "input": "", "output": "b"}).to_string());
    let arguments = [&TRAIN[..], &["--set", "data.train=sft.jsonl", "--set", "data.eval_pairs=0"]].concat();
    refused(&scratch, &arguments, &["sft.jsonl:1", "asft", "--objective sft"]);
}

/// Rewrites one tensor of a checkpoint's only safetensors file.
fn edit_tensor(directory: &Path, name: &str, edit: impl FnOnce(&mut Vec<usize>, &mut Vec<u8>) -> bool) {
    use safetensors::{SafeTensors, tensor::TensorView};
    let path = directory.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let parsed = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> = parsed
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, t.dtype(), t.shape().to_vec(), t.data().to_vec()))
        .collect();
    let index = tensors.iter().position(|(found, ..)| found == name).unwrap();
    let (_, _, shape, data) = &mut tensors[index];
    if !edit(shape, data) {
        tensors.remove(index);
    }
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn checkpoints() {
    const NORM: &str = "model.norm.weight";
    type Damage = fn(&Path);
    let cases: [(&str, Damage, &[&str]); 9] = [
        ("missing", |d| edit_tensor(d, NORM, |_, _| false), &[NORM, "missing"]),
        (
            "misshaped",
            |d| {
                edit_tensor(d, NORM, |shape, data| {
                    shape[0] /= 2;
                    data.truncate(data.len() / 2);
                    true
                });
            },
            &[NORM, "[16]", "[32]"],
        ),
        (
            "NaN",
            |d| {
                edit_tensor(d, NORM, |_, data| {
                    data[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
                    true
                });
            },
            &[NORM, "element 2 is NaN"],
        ),
        (
            "truncated",
            |d| {
                let path = d.join("model.safetensors");
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            },
            &["model.safetensors", "not a whole safetensors file"],
        ),
        (
            "no weights",
            |d| std::fs::remove_file(d.join("model.safetensors")).unwrap(),
            &["model.safetensors"],
        ),
        ("no config", |d| std::fs::remove_file(d.join("config.json")).unwrap(), &["config.json is missing"]),
        (
            "architecture",
            |d| replace(&d.join("config.json"), "LlamaForCausalLM", "GemmaForCausalLM"),
            &["config.json", "architectures", "GemmaForCausalLM"],
        ),
        (
            "scaling",
            |d| replace(&d.join("config.json"), "\"default\"", "\"yarn\""),
            &["config.json", "rope_parameters.rope_type", "yarn"],
        ),
        ("no tokenizer", |d| std::fs::remove_file(d.join("tokenizer.json")).unwrap(), &["tokenizer.json"]),
    ];
    for (name, damage, expected) in cases {
        let scratch = Scratch::new();
        let model = scratch.copy_of("llama3", "damaged");
        damage(&model);
        scratch.config("");
        let arguments = [&TRAIN[..], &["--set", "model.path=damaged"]].concat();
        refused(&scratch, &arguments, &[expected, &["damaged"]].concat());
        let pairs = crate::support::tiny("llama3").join("pairs.jsonl");
        let score =
            ["score", "--model", "damaged", "--data", pairs.to_str().unwrap(), "--output", "out.jsonl"];
        refused(&scratch, &score, expected);
        assert!(!scratch.path("out.jsonl").exists(), "{name}");
    }
    let scratch = Scratch::new();
    scratch.config("");
    refused(&scratch, &[&TRAIN[..], &["--set", "model.path=absent"]].concat(), &["absent", "no such file"]);
}

#[test]
fn a_tokenizer_of_another_model() {
    let scratch = Scratch::new();
    let model = scratch.copy_of("llama3", "mixed");
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["vocab_size"] = json!(300);
    std::fs::write(model.join("config.json"), config.to_string()).unwrap();
    scratch.config("");
    refused(
        &scratch,
        &[&TRAIN[..], &["--set", "model.path=mixed"]].concat(),
        &["mixed", "518 tokens", "300"],
    );
}

/// The library behind tokenizer.json panics on this one; the command must not.
#[test]
fn a_damaged_tokenizer() {
    let scratch = Scratch::new();
    let model = scratch.copy_of("llama3", "damaged");
    scratch.config("");
    let path = model.join("tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for end in [0, 1, text.len() / 3, text.len() - 2] {
        std::fs::write(&path, &text[..end]).unwrap();
        refused(&scratch, &[&TRAIN[..], &["--set", "model.path=damaged"]].concat(), &["tokenizer.json"]);
    }
    std::fs::write(&path, text.replace("\"use_regex\"", "\"use_regex\" 3")).unwrap();
    refused(&scratch, &[&TRAIN[..], &["--set", "model.path=damaged"]].concat(), &["tokenizer.json"]);
}

#[test]
fn a_truncated_gguf() {
    let scratch = Scratch::new();
    scratch.config("");
    scratch.write("cut.gguf", b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f");
    refused(&scratch, &[&TRAIN[..], &["--set", "model.path=cut.gguf"]].concat(), &["cut.gguf"]);
    scratch.write("none.gguf", b"nothing of the kind");
    refused(&scratch, &[&TRAIN[..], &["--set", "model.path=none.gguf"]].concat(), &["none.gguf"]);
    scratch.write("weights.bin", b"x");
    refused(
        &scratch,
        &[&TRAIN[..], &["--set", "model.path=weights.bin"]].concat(),
        &["weights.bin", ".gguf"],
    );
}

#[test]
fn reference_models() {
    let scratch = Scratch::new();
    scratch.config("");
    let (model, data) = (tiny("llama3"), tiny("llama3").join("pairs.jsonl"));
    let [model, data] = [&model, &data].map(|path| path.to_str().unwrap());
    let score = ["score", "--model", model, "--data", data, "--output", "out.jsonl", "--objective", "dpo"];
    refused(&scratch, &score, &["dpo compares with a reference model", "--reference M2"]);
    refused(&scratch, &[&score[..], &["--reference", "absent"]].concat(), &["absent"]);

    let dpo = [&TRAIN[..], &["--objective", "dpo"]].concat();
    let with = |more: &str| {
        [&dpo[..], &["--set", more]].concat().iter().map(|&text| text.to_owned()).collect::<Vec<_>>()
    };
    let refused_with = |more: &str, expected: &[&str]| {
        let arguments = with(more);
        refused(&scratch, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    };
    refused_with("reference.path=\"absent\"", &["absent"]);
    refused_with("reference.cache=\"\"", &["reference.cache: must not be empty"]);
    refused_with("reference.cache=\"config.toml\"", &["config.toml", "cannot be used", "reference.cache"]);
    refused_with("reference.mode=\"sometimes\"", &["reference.mode", "sometimes"]);
    refused_with("reference.modes=\"online\"", &["reference.modes: unknown key"]);

    let other = scratch.copy_of("llama3", "other");
    replace(&other.join("tokenizer.json"), "<|start_header_id|>", "<|begin_header_id|>");
    refused_with(
        "reference.path=\"other\"",
        &["other", "its tokenizer is not that of the model that it is compared with"],
    );
    let damaged = scratch.copy_of("llama3", "damaged");
    edit_tensor(&damaged, "model.norm.weight", |_, bytes| {
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        true
    });
    refused_with("reference.path=\"damaged\"", &["model.norm.weight", "NaN"]);

    // A file of another model under this model's name, and one that is damaged.
    scratch.ok(&[&dpo[..], &["--set", "train.max_steps=1"]].concat());
    std::fs::remove_dir_all(scratch.path("run")).unwrap();
    let cache = std::fs::read_dir(scratch.path("cache/reference")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read_to_string(&cache).unwrap();
    let (header, lines) = whole.split_once('\n').unwrap();
    let mut other: serde_json::Value = serde_json::from_str(header).unwrap();
    other["model"] = json!("f".repeat(64));
    std::fs::write(&cache, format!("{other}\n{lines}")).unwrap();
    refused(&scratch, &dpo, &["holds the log-probs of another model", "reference.cache"]);
    std::fs::write(&cache, format!("{header}\n{{\"pair\": 1}}\n{lines}")).unwrap();
    refused(&scratch, &dpo, &["line 2: ", "remove the file"]);
    refused(&scratch, &[&dpo[..], &["--dry-run"]].concat(), &["line 2: ", "remove the file"]);
}

#[test]
fn output_directories() {
    let scratch = Scratch::new();
    scratch.config("");
    std::fs::create_dir(scratch.path("full")).unwrap();
    scratch.write("full/letter.txt", "mine");
    refused(&scratch, &[&TRAIN[..], &["--output", "full"]].concat(), &["full", "letter.txt", "no run"]);
    scratch.write("file", "mine");
    refused(&scratch, &[&TRAIN[..], &["--output", "file/run"]].concat(), &["file"]);
    let pairs = crate::support::tiny("llama3").join("pairs.jsonl");
    let model = crate::support::tiny("llama3");
    let score = [
        "score",
        "--model",
        model.to_str().unwrap(),
        "--data",
        pairs.to_str().unwrap(),
        "--output",
        "no/out.jsonl",
    ];
    refused(&scratch, &score, &["no/out.jsonl"]);
    let export = |output: &str, expected: &str| {
        refused(&scratch, &["export", "--model", model.to_str().unwrap(), "--output", output], &[expected]);
    };
    export("full", "full: is there already");
    export("file", "file: is there already");
    export("file/model", "file/model: cannot be written");
    let score = |data: &str, output: &str, expected: &[&str]| {
        let model = model.to_str().unwrap();
        refused(&scratch, &["score", "--model", model, "--data", data, "--output", output], expected);
    };
    score(pairs.to_str().unwrap(), "full", &["full", "is a directory"]);
    std::fs::copy(&pairs, scratch.path("own.jsonl")).unwrap();
    score("own.jsonl", "./own.jsonl", &["own.jsonl", "is the input itself"]);
}

/// Each of the processes would train by itself, into the same directory; the first of them says so.
#[cfg(not(feature = "mpi"))]
#[test]
fn several_processes_without_mpi() {
    let scratch = Scratch::new();
    scratch.config("");
    for (rank, lines) in [("0", 1), ("3", 0)] {
        let mut command = scratch.command(&TRAIN);
        command.envs([("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", rank)]);
        let output = command.output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert_eq!(message.lines().count(), lines, "{message}");
        assert!(
            lines == 0 || message.contains("mpirun started 4 processes, but this asft was built without MPI")
        );
        assert!(!scratch.path("run").exists());
    }
    let mut alone = scratch.command(&[&TRAIN[..], &["--set", "train.max_steps=1"]].concat());
    assert!(alone.env("OMPI_COMM_WORLD_SIZE", "1").output().unwrap().status.success());
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} has no {from}", path.display());
    std::fs::write(path, text.replace(from, to)).unwrap();
}
