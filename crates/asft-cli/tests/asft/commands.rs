//! The commands as a user calls them.

use crate::support::{Scratch, stderr, tiny};
use asft_core::Objective;
use serde_json::{Value, json};

fn lines(path: &std::path::Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Sums and counts of the tiny checkpoints against transformers (`goldens/tiny_models.py`), from text to number.
#[test]
fn score_agrees_with_transformers() {
    for name in ["llama3", "llama31_tied", "head_dim", "sharded"] {
        let scratch = Scratch::new();
        let model = tiny(name);
        let (model_path, data) = (model.to_str().unwrap(), model.join("pairs.jsonl"));
        scratch.ok(&[
            "score",
            "--model",
            model_path,
            "--data",
            data.to_str().unwrap(),
            "--output",
            "out.jsonl",
            "--objective",
            "asft",
        ]);
        let expected: Value =
            serde_json::from_str(&std::fs::read_to_string(model.join("expected.json")).unwrap()).unwrap();
        let expected = expected["pairs"].as_array().unwrap();
        let got = lines(&scratch.path("out.jsonl"));
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert_eq!(got["index"], expected["index"]);
            assert_eq!(
                got["prompt_tokens"].as_u64().unwrap() as usize,
                expected["prompt"].as_array().unwrap().len()
            );
            for side in ["chosen", "rejected"] {
                assert_eq!(
                    got[side]["tokens"].as_u64().unwrap() as usize,
                    expected[side].as_array().unwrap().len()
                );
                let (got, expected) = (
                    got[side]["logp_sum"].as_f64().unwrap(),
                    expected[format!("logp_sum_{side}")].as_f64().unwrap(),
                );
                assert!(
                    (got - expected).abs() <= 1e-4 * expected.abs(),
                    "{name}, {side}: {got} against {expected}"
                );
            }
            // ∂L/∂s of the chosen side is -(1 + β)/T at the default β 0.1.
            let tokens = got["chosen"]["tokens"].as_f64().unwrap();
            assert!((got["grad_chosen"].as_f64().unwrap() + 1.1 / tokens).abs() < 1e-12);
            assert!(got["loss"].as_f64().unwrap() > 0.0 && got["grad_rejected"].as_f64().unwrap() > 0.0);
        }
    }
}

#[test]
fn a_run_scores_and_exports_as_its_last_evaluation() {
    let scratch = Scratch::new();
    scratch.config("");
    let summary: Value =
        serde_json::from_str(&scratch.ok(&["train", "--config", "config.toml", "--json"])).unwrap();
    assert_eq!(summary["steps"], 18);
    let data = tiny("llama3").join("pairs.jsonl");
    let score = |model: &str, output: &str| {
        scratch.ok(&["score", "--model", model, "--data", data.to_str().unwrap(), "--output", output]);
        lines(&scratch.path(output))
    };
    let of_run = score("run", "run.jsonl");
    let evaluation = lines(&scratch.path("run/evaluations/step-18.jsonl"));
    assert_eq!(evaluation.len(), 2);
    for held_out in evaluation {
        let of_run = &of_run[held_out["index"].as_u64().unwrap() as usize];
        for side in ["chosen", "rejected"] {
            let [a, b] = [of_run, &held_out].map(|line| line[side]["logp_sum"].as_f64().unwrap());
            assert!((a - b).abs() <= 1e-5 * b.abs(), "{a} against {b}");
        }
    }
    scratch.ok(&["export", "--run", "run", "--output", "exported"]);
    assert_eq!(score("exported", "exported.jsonl"), of_run);
    let mut files: Vec<_> = std::fs::read_dir(scratch.path("exported"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);

    // The three held-out evaluations on the way and both ends, and one row a step.
    let rows = lines(&scratch.path("run/metrics.jsonl"));
    let steps = |kind: &str| {
        rows.iter()
            .filter(|row| row["kind"] == kind)
            .map(|row| row["step"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(steps("eval"), [0, 5, 10, 15, 18]);
    assert_eq!(steps("train"), (1..=18).collect::<Vec<_>>());
    for row in rows {
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
        assert!((number("loss") - (number("nll") + 0.1 * number("align"))).abs() < 1e-9, "{row}");
        assert!(
            (number("margin") - (number("logps_chosen") - number("logps_rejected"))).abs() < 1e-9,
            "{row}"
        );
    }
    let page = std::fs::read_to_string(scratch.path("run/report.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 6);
    assert!(
        !page.contains("http://")
            || page.replace("http://www.w3.org/2000/svg", "").matches("http").count() == 0
    );
}

/// `asft objective` against the reference values beside the project, every case and batch.
#[test]
fn objective_reproduces_the_shared_goldens() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens/objectives.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: shared/goldens/objectives.json is not beside the project");
        return;
    };
    let goldens: Value = serde_json::from_str(&text).unwrap();
    let scratch = Scratch::new();
    let mut all_compared = 0;
    // The last one was added later, with goldens of our own alone.
    for &name in Objective::NAMES.iter().filter(|name| **name != "apo_down") {
        let got: Value =
            serde_json::from_str(&scratch.ok(&["objective", name, "--input", path.to_str().unwrap()]))
                .unwrap();
        let mut compared = 0;
        for kind in ["cases", "batches"] {
            let expected: Vec<_> =
                goldens[kind].as_array().unwrap().iter().filter(|case| case["objective"] == name).collect();
            let got = got[kind].as_array().unwrap();
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(expected) {
                assert_eq!(got["id"], expected["id"]);
                compared += usize::from(kind == "cases");
                compare(&got["id"].to_string(), &got["result"], &expected["expected"]);
            }
        }
        assert!(compared >= 2, "{name}: {compared} cases");
        all_compared += compared;
    }
    assert!(all_compared >= 68, "{all_compared} cases");
}

/// `score --objective` and `objective` on what `score` wrote give the same for every objective.
#[test]
fn score_and_objective_agree() {
    let scratch = Scratch::new();
    let [model, reference] = ["llama3", "head_dim"].map(tiny);
    let data = model.join("pairs.jsonl");
    let [model, reference, data] = [&model, &reference, &data].map(|path| path.to_str().unwrap());
    for &name in Objective::NAMES {
        let reads_reference = Objective::by_name(name).unwrap().needs_reference();
        let mut arguments =
            vec!["score", "--model", model, "--data", data, "--output", "out.jsonl", "--objective", name];
        if reads_reference {
            arguments.extend(["--reference", reference]);
        }
        scratch.ok(&arguments);
        let scored = lines(&scratch.path("out.jsonl"));
        let cases: Vec<Value> = scored
            .iter()
            .map(|line| json!({"objective": name, "chosen": line["chosen"], "rejected": line["rejected"]}))
            .collect();
        scratch.write("cases.json", json!({"cases": cases}).to_string());
        let again: Value =
            serde_json::from_str(&scratch.ok(&["objective", name, "--input", "cases.json"])).unwrap();
        assert_eq!(again["cases"].as_array().unwrap().len(), scored.len());
        for (line, case) in scored.iter().zip(again["cases"].as_array().unwrap()) {
            assert_eq!(line["chosen"].get("ref_logp_sum").is_some(), reads_reference, "{name}");
            for key in ["loss", "grad_chosen", "grad_rejected"] {
                assert_eq!(line[key], case["result"][key], "{name}, {key}");
            }
        }
    }
}

#[test]
fn dpo_trains_and_a_second_run_needs_no_reference_model() {
    let scratch = Scratch::new();
    scratch.config("");
    let train = |output: &str, more: &[&str]| {
        let arguments = ["train", "--config", "config.toml", "--objective", "dpo", "--output", output];
        let output = scratch.run(&[&arguments[..], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    let plan = |more: &[&str]| -> Value {
        let arguments = [
            "train",
            "--config",
            "config.toml",
            "--objective",
            "dpo",
            "--output",
            "plan",
            "--dry-run",
            "--json",
        ];
        serde_json::from_str(&scratch.ok(&[&arguments[..], more].concat())).unwrap()
    };
    assert_eq!(plan(&[])["pairs_to_reference"], 8);
    // One step draws two pairs; no others need a reference but those held out.
    assert_eq!(plan(&["--set", "train.max_steps=1"])["pairs_to_reference"], 4);
    // Eight pairs, two of them held out: the reference model scores all.
    assert!(train("first", &[]).contains("reference model: 8/8 pairs"));
    assert_eq!(plan(&[])["pairs_to_reference"], 0);
    let online = plan(&["--set", "reference.mode=\"online\""]);
    assert!(online["pairs_to_reference"].is_null() && online["memory"]["reference_bytes"].as_u64() > Some(0));
    assert!(!train("second", &["--set", "objective.dpo.beta=0.5"]).contains("reference model"));
    assert!(!train("online", &["--set", "reference.mode=\"online\""]).contains("reference model"));
    let metrics = |run: &str| lines(&scratch.path(&format!("{run}/metrics.jsonl")));
    let (first, online) = (metrics("first"), metrics("online"));
    assert_eq!(first.len(), online.len());
    for (first, online) in first.iter().zip(&online) {
        for key in ["loss", "rewards_chosen", "rewards_rejected", "margin"] {
            let (first, online) = (first[key].as_f64().unwrap(), online[key].as_f64().unwrap());
            assert!((first - online).abs() <= 1e-4 * (1.0 + online.abs()), "{key}: {first} against {online}");
        }
    }
    // Before the first step the model is its own reference.
    let ln_2 = std::f64::consts::LN_2;
    assert!((first[0]["loss"].as_f64().unwrap() - ln_2).abs() < 1e-6, "{}", first[0]);
    let last = first.iter().rfind(|row| row["kind"] == "train").unwrap();
    assert!(last["loss"].as_f64().unwrap() < 0.5 * ln_2, "{last}");
    let evaluation = lines(&scratch.path("first/evaluations/step-0.jsonl"));
    assert!(evaluation[0]["chosen"]["ref_logp_sum"].is_number(), "{}", evaluation[0]);
    // asft never looks for one, whatever the table says.
    let absent = ["--objective", "asft", "--output", "third", "--set", "reference.path=\"absent\""];
    scratch.ok(&[&["train", "--config", "config.toml"], &absent[..]].concat());
}

fn compare(at: &str, got: &Value, expected: &Value) {
    match expected {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, expected)| compare(&format!("{at}.{key}"), &got[key], expected))
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, expected)| compare(&format!("{at}[{i}]"), &got[i], expected)),
        Value::Number(expected) => {
            let (got, expected) = (got.as_f64().unwrap_or(f64::NAN), expected.as_f64().unwrap());
            let slack = if at.contains("metrics") { 1e-12 } else { 1e-30 };
            assert!(
                (got - expected).abs() <= 1e-12 * expected.abs() + slack,
                "{at}: {got} against {expected}"
            );
        }
        other => assert_eq!(got, other, "{at}"),
    }
}

#[test]
fn inspect_shows_what_is_scored() {
    let scratch = Scratch::new();
    let model = tiny("llama3");
    let data = model.join("pairs.jsonl");
    let arguments = ["data", "inspect", "--data", data.to_str().unwrap(), "--model", model.to_str().unwrap()];
    let summary: Value = serde_json::from_str(&scratch.ok(&[&arguments[..], &["--json"]].concat())).unwrap();
    assert_eq!(
        (&summary["rows"], &summary["kept"], &summary["truncated"]),
        (&8.into(), &8.into(), &0.into())
    );
    let text = scratch.ok(&arguments);
    let roles = |role: &str, scored: &str| {
        text.lines()
            .filter(|line| {
                let mut words = line.split_whitespace();
                words.next() == Some(role) && words.next() == Some(scored)
            })
            .count()
    };
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(model.join("expected.json")).unwrap()).unwrap();
    let first = |part: &str| expected["pairs"][0][part].as_array().unwrap().len();
    assert_eq!(
        [roles("prompt", "no"), roles("chosen", "yes"), roles("rejected", "yes")],
        [first("prompt"), first("chosen"), first("rejected")]
    );
    assert!(text.contains("<|eot_id|>"), "{text}");
}

#[test]
fn the_plan_is_printed_without_training() {
    let scratch = Scratch::new();
    scratch.config("");
    let plan: Value =
        serde_json::from_str(&scratch.ok(&["train", "--config", "config.toml", "--dry-run", "--json"]))
            .unwrap();
    assert_eq!((&plan["pairs"], &plan["held_out_pairs"], &plan["steps"]), (&6.into(), &2.into(), &18.into()));
    assert!(!scratch.path("run").exists());
}

#[test]
fn a_diverging_run_names_step_and_pairs_and_keeps_its_checkpoint() {
    let scratch = Scratch::new();
    scratch.config("");
    let arguments = [
        "train",
        "--config",
        "config.toml",
        "--set",
        "optimizer.weight_decay=1000",
        "--set",
        "optimizer.learning_rate=1",
        "--set",
        "optimizer.max_grad_norm=0",
        "--set",
        "train.epochs=60",
        "--set",
        "data.eval_pairs=0",
        "--set",
        "schedule.warmup_ratio=0.3",
        "--set",
        "train.save_every_steps=1",
    ];
    let output = scratch.run(&arguments);
    let message = crate::support::stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("error: step ") && message.contains("pair"), "{message}");
    let newest = message.split("the last good checkpoint is ").nth(1).unwrap().split(';').next().unwrap();
    // The checkpoint is whole: it loads, tensor by tensor.
    scratch.ok(&["export", "--model", newest, "--output", "kept"]);
}

/// `asft train` with no arguments, as the README promises it.
#[test]
fn the_quickstart_learns_the_preference() {
    let scratch = Scratch::new();
    let summary: Value = serde_json::from_str(&scratch.ok(&["train", "--json"])).unwrap();
    let accuracy = |when: &str| summary[when]["accuracy"].as_f64().unwrap();
    assert!((0.3..0.7).contains(&accuracy("before")), "{summary}");
    assert!(accuracy("after") > 0.9, "{summary}");
    assert!(scratch.path("runs/quickstart/report.html").is_file());
    assert!(scratch.path("runs/quickstart/latest/model.safetensors").is_file());
}

#[test]
fn the_benchmark_prints_its_figures() {
    let scratch = Scratch::new();
    let model = tiny("llama3");
    let data = model.join("pairs.jsonl");
    let [model, data] = [&model, &data].map(|path| path.to_str().unwrap());
    let arguments =
        ["bench", "train", "--model", model, "--data", data, "--pairs", "6", "--pairs-per-step", "4"];
    let figures: Value = serde_json::from_str(&scratch.ok(&arguments)).unwrap();
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(tiny("llama3").join("expected.json")).unwrap())
            .unwrap();
    let count = |parts: &[&str]| {
        let pairs = &expected["pairs"].as_array().unwrap()[..6];
        pairs
            .iter()
            .flat_map(|pair| parts.iter().map(|part| pair[*part].as_array().unwrap().len()))
            .sum::<usize>()
    };
    assert_eq!((&figures["model"], &figures["dtype"]), (&model.into(), &"f32".into()));
    assert_eq!(figures["tokens"], count(&["prompt", "chosen", "rejected"]));
    assert_eq!(figures["scored_tokens"], count(&["chosen", "rejected"]));
    assert_eq!((&figures["pairs"], figures["losses"].as_array().unwrap().len()), (&6.into(), 2));
    for key in ["seconds_per_step", "pairs_per_second", "tokens_per_second", "matmul_gflops", "step_gflops"] {
        assert!(figures[key].as_f64().unwrap() > 0.0, "{key} in {figures}");
    }
}

/// Demonstrations without a rejected answer train with SFT.
#[test]
fn a_reference_model_costs_what_the_benchmark_says() {
    let scratch = Scratch::new();
    let model = tiny("llama3");
    let data = model.join("pairs.jsonl");
    let [model, data] = [&model, &data].map(|path| path.to_str().unwrap());
    let bench = ["bench", "reference", "--model", model, "--data", data, "--repeat", "1", "--pairs", "4"];
    let figures: Value = serde_json::from_str(&scratch.ok(&bench)).unwrap();
    assert_eq!((&figures["pairs"], &figures["paper"]["memory_saved"]), (&json!(4), &json!(0.167)));
    for name in ["dpo_online", "dpo_precomputed"] {
        let number = |name: &str, key: &str| figures[name][key].as_f64().unwrap();
        let saved = 1.0 - number("asft", "seconds") / number(name, "seconds");
        assert!((number(name, "time_saved") - saved).abs() < 1e-12, "{figures:#}");
        let bytes = number(name, "peak_memory_bytes") - number("asft", "peak_memory_bytes");
        assert!((number(name, "memory_saved_bytes") - bytes).abs() < 1.0, "{figures:#}");
    }
    // Nothing is left where the command ran, and bad input is the training's own complaint.
    assert_eq!(std::fs::read_dir(scratch.0.path()).unwrap().count(), 0);
    let output = scratch.run(&[&bench[..], &["--set", "reference.mode=online"]].concat());
    assert!(output.status.code() == Some(2) && stderr(&output).contains("bench train measures"));
    let output = scratch.run(&["bench", "reference", "--model", "absent", "--data", data]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("error: absent"), "{}", stderr(&output));
}

#[test]
fn sft_trains_on_alpaca_rows() {
    let scratch = Scratch::new();
    scratch.config("");
    let row =
        |i: usize| serde_json::json!({"instruction": format!("Say {i}"), "input": "", "output": "I say it."});
    let rows: String = (0..6).map(|i| format!("{}\n", row(i))).collect();
    scratch.write("sft.jsonl", rows);
    scratch.ok(&["train", "--config", "config.toml", "--objective", "sft", "--set", "data.train=sft.jsonl"]);
    let rows = lines(&scratch.path("run/metrics.jsonl"));
    let loss = |row: &Value| row["loss"].as_f64().unwrap();
    assert!(loss(&rows[rows.len() - 1]) < loss(&rows[0]), "{rows:?}");
    assert!(rows.iter().all(|row| row.get("margin").is_none() && row.get("logps_rejected").is_none()));
}

#[test]
fn devices_are_told_and_a_backend_that_cannot_be_used_is_refused_first() {
    let scratch = Scratch::new();
    let rows: Value = serde_json::from_str(&scratch.ok(&["devices", "--json"])).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 5);
    for row in rows {
        let name = row["backend"].as_str().unwrap();
        match row["device"].is_string() {
            true => assert!(row["matmul_gflops"][0][1].as_f64().unwrap() > 0.0, "{row}"),
            false => {
                let output = scratch.run(&["train", "--backend", name, "--config", "no-such-file.toml"]);
                assert_eq!(output.status.code(), Some(2), "{name}");
                let why = if row["compiled_in"] == true { "does not work here" } else { "not compiled in" };
                let message = stderr(&output);
                assert!(
                    message.starts_with(&format!("error: backend {name} ")) && message.contains(why),
                    "{message}"
                );
            }
        }
    }
    assert_eq!(rows.iter().filter(|row| row["auto"] == true).count(), 1);
}

#[test]
fn a_conformance_run_needs_no_files() {
    let scratch = Scratch::new();
    for dtype in ["f32", "bf16"] {
        let output = scratch.ok(&["bench", "conformance", "--backend", "flex", "--dtype", dtype]);
        let result: Value = serde_json::from_str(&output).unwrap();
        assert_eq!((result["checks"].as_array().unwrap().len(), &result["dtype"]), (8, &json!(dtype)));
    }
}

/// What fails is told and leaves the others alone; adapters and all weights are trained on the same pairs.
#[test]
fn the_check_of_a_gpu_goes_the_same_way_on_a_cpu() {
    let scratch = Scratch::new();
    let check =
        ["bench", "gpu", "--backend", "flex", "--model", "embedded:quickstart", "--output", "gpu.json"];
    let parts = ["--dtype", "f32", "--steps", "2", "--parts", "matmul,full,lora"];
    let output = scratch.run(&[&check[..], &parts].concat());
    // The embedded model has no file to put an adapter on.
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("lora failed"), "{}", stderr(&output));
    let result: Value = serde_json::from_slice(&std::fs::read(scratch.path("gpu.json")).unwrap()).unwrap();
    let parts = &result["parts"];
    assert!(parts["lora"]["error"].as_str().unwrap().contains("this model has no file"), "{result:#}");
    assert_eq!(parts["matmul"]["result"]["products"][0]["matrix"], "q_proj");
    let full = &parts["full"];
    assert_eq!(full["result"]["pair_tokens"].as_array().unwrap().len(), 4);
    assert_eq!(full["result"]["step_seconds"].as_array().unwrap().len(), 2);
    let tokens = full["result"]["tokens"].as_f64().unwrap();
    let seconds = full["result"]["step_seconds"][1].as_f64().unwrap();
    assert_eq!(full["rates"]["tokens_per_second"].as_f64().unwrap(), tokens / seconds);

    let none = ["bench", "gpu", "--backend", "flex", "--output", "none.json", "--peak-tflops", "0"];
    let output = scratch.run(&none);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(!scratch.path("none.json").exists());
}

#[test]
fn a_plan_beyond_the_budget_says_what_would_lower_it() {
    let scratch = Scratch::new();
    let warning = |more: &[&str]| {
        let plan = ["train", "--dry-run", "--set", "train.memory_budget=20 MB"];
        let output = scratch.run(&[&plan[..], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    let plain = warning(&[]);
    assert!(plain.contains("more than the 20.000 MB of train.memory_budget\nhint: "), "{plain}");
    let ways = ["model.dtype = \"bf16\"", "optimizer.state_dtype = \"bf16\"", "optimizer.in_backward = true"];
    let settings = ["model.dtype=bf16", "optimizer.state_dtype=bf16", "optimizer.in_backward=true"];
    for (way, setting) in ways.into_iter().zip(settings) {
        assert!(plain.contains(way), "{plain}");
        let warning = warning(&["--set", setting]);
        assert!(warning.contains("hint: less memory") && !warning.contains(way), "{setting}: {warning}");
    }
}

#[test]
fn products_beyond_the_memory_are_not_begun() {
    let scratch = Scratch::new();
    let model = tiny("llama3");
    let model = ["--model", model.to_str().unwrap(), "--backend", "flex"];
    let output = scratch.run(&[&["bench", "matmul", "--tokens", "4294967295"], &model[..]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--tokens 4294967295"), "{}", stderr(&output));
}

#[test]
fn a_plan_can_be_made_for_a_shape_and_pairs_of_a_length() {
    let scratch = Scratch::new();
    let plan = |more: &[&str]| -> Value {
        let shape = ["--set", "model.path=random:llama-3-8b", "--set", "train.segments=32"];
        let arguments =
            [&["train", "--dry-run", "--json", "--pair-tokens", "2048"][..], &shape, more].concat();
        serde_json::from_str(&scratch.ok(&arguments)).unwrap()
    };
    let by_block = ["--set", "optimizer.in_backward=true", "--set", "train.pairs_per_step=4"];
    let bf16 = ["--set", "model.dtype=bf16", "--set", "optimizer.state_dtype=bf16"];
    let peak = |plan: Value| plan["memory"]["peak_bytes"].as_f64().unwrap() / 1e9;
    assert!((50.0..70.0).contains(&peak(plan(&[by_block, bf16].concat()))));
    assert!(peak(plan(&bf16)) > 80.0);
    let output = scratch.run(&["train", "--pair-tokens", "2048"]);
    assert_eq!(output.status.code(), Some(2), "it is for plans alone");
    let output = scratch.run(&["train", "--set", "model.path=random:llama-9"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("random:llama-3-8b"), "{}", stderr(&output));
}
