//! Comparisons: run by run, resumed, and only with results that are theirs.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Scratch, stderr};

const CONFIG: &str = r#"
[model]
path = "embedded:quickstart"
[data]
train = ["embedded:quickstart"]
eval = ["embedded:quickstart"]
[train]
max_steps = 4
pairs_per_step = 4
eval_every_steps = 2
eval_pairs = 30
save_every_steps = 0
[compare]
output = "out"
learning_rates = [1e-3, 4e-3]
seeds = [1, 2]
validation_pairs = 20
generate_pairs = 3
generate_tokens = 16
[variants.asft.objective.asft]
[variants.dpo.objective.dpo]
"#;

const COMPARE: [&str; 3] = ["compare", "--config", "compare.toml"];

/// Results by name, without times and memory.
fn results(scratch: &Scratch) -> BTreeMap<String, Value> {
    let entries = std::fs::read_dir(scratch.path("out/results")).unwrap();
    let result = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        let mut result: Value = serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap();
        for key in ["seconds_per_step", "peak_memory_bytes"] {
            result.as_object_mut().unwrap().remove(key);
        }
        (entry.file_name().into_string().unwrap(), result)
    };
    entries.map(result).collect()
}

fn mean(result: &Value, when: &str) -> f64 {
    let pairs = result["test_pairs"].as_array().unwrap();
    let margin = |pair: &Value| pair[when][0].as_f64().unwrap() - pair[when][1].as_f64().unwrap();
    pairs.iter().map(margin).sum::<f64>() / pairs.len() as f64
}

#[test]
fn a_comparison_trains_chooses_and_reports() {
    let scratch = Scratch::new();
    scratch.write("compare.toml", CONFIG);
    let plan = scratch.ok(&[&COMPARE[..], &["--dry-run"]].concat());
    assert!(
        plan.starts_with("6 runs, 0 with a result")
            && plan.ends_with("then 2 more, with the learning rates that these choose\n"),
        "{plan}"
    );
    assert!(!scratch.path("out").exists());
    let table = scratch.ok(&COMPARE);
    assert!(table.contains("| asft | ") && table.contains("| dpo | "), "{table}");
    let made = results(&scratch);
    assert_eq!(made.len(), 6);
    let mut chosen = BTreeMap::new();
    for (name, result) in &made {
        // 60 test pairs, which the means of the first and last evaluation are of.
        assert_eq!(result["test_pairs"].as_array().unwrap().len(), 60, "{name}");
        let evaluations = result["evaluations"].as_array().unwrap();
        assert_eq!(
            evaluations.iter().map(|row| row["step"].as_u64().unwrap()).collect::<Vec<_>>(),
            [0, 2, 4]
        );
        let answers = &result["answers"];
        assert!(answers["pairs"] == 3 && answers["tokens"].as_f64().unwrap() <= 16.0, "{name}: {answers}");
        for (evaluation, when) in [(&evaluations[0], "before"), (&evaluations[2], "after")] {
            assert_eq!(evaluation["validation"]["pairs"], 20);
            let margin = evaluation["test"]["metrics"]["margin"].as_f64().unwrap();
            assert!((margin - mean(result, when)).abs() < 1e-5, "{name}: {margin} {}", mean(result, when));
        }
        // On the way the first 30 pairs, each of one part.
        let way = &evaluations[1];
        let pairs = |part: &str| way[part]["pairs"].as_u64().unwrap();
        assert_eq!(pairs("validation") + pairs("test"), 30, "{name}");
        let (rate, seed) =
            (&result["config"]["optimizer"]["learning_rate"], &result["config"]["train"]["seed"]);
        if *seed == 2 {
            chosen.insert(result["variant"].as_str().unwrap(), rate.as_f64().unwrap());
        }
        assert!(!scratch.path("out/runs").join(name.trim_end_matches(".json")).join("checkpoints").exists());
    }
    for (variant, rate) in chosen {
        let margin = |rate: &str| {
            let last = &made[&format!("{variant}-lr{rate}-seed1.json")]["evaluations"][2];
            last["validation"]["metrics"]["margin"].as_f64().unwrap()
        };
        let better = if margin("4e-3") > margin("1e-3") { 4e-3 } else { 1e-3 };
        assert_eq!(rate, better, "{variant}");
    }
    let report = std::fs::read_to_string(scratch.path("out/report.md")).unwrap();
    assert!(report.contains("## Generated answers") && report.contains("against the chosen answers"));
    assert!(
        report.contains("## Against asft, pair by pair")
            && report.contains("asft compare --config compare.toml")
    );
    assert!(scratch.path("out/report.html").is_file() && scratch.path("out/curves.svg").is_file());

    // A run without its result is made again, alone and alike.
    std::fs::remove_file(scratch.path("out/results/dpo-lr1e-3-seed1.json")).unwrap();
    std::fs::remove_dir_all(scratch.path("out/runs/dpo-lr1e-3-seed1")).unwrap();
    let again = scratch.run(&COMPARE);
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(stderr(&again).matches("checkpoint:").count(), 1);
    assert_eq!(results(&scratch), made);
}

#[test]
fn results_of_other_settings_are_refused() {
    let scratch = Scratch::new();
    scratch.write("compare.toml", CONFIG);
    let one = ["--set", "compare.seeds=[1]", "--set", "compare.learning_rates=[1e-3]"];
    scratch.ok(&[&COMPARE[..], &one].concat());
    let before = results(&scratch);
    for (setting, message) in [
        ("train.max_steps=5", "was made with train.max_steps = 4, the comparison says 5"),
        ("variants.asft.objective.asft.beta=0.2", "was made with objective.asft.beta = 0.1"),
        ("compare.validation_pairs=10", "was made with compare.validation_pairs = 20"),
        ("compare.validation_pairs=79", "the test needs two of them at least"),
    ] {
        let output = scratch.run(&[&COMPARE[..], &one, &["--set", setting]].concat());
        assert_eq!(output.status.code(), Some(2), "{setting}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{setting}: {}", stderr(&output));
    }
    assert_eq!(results(&scratch), before);
    scratch.write("out/results/asft-lr1e-3-seed1.json", "{}");
    let output = scratch.run(&[&COMPARE[..], &one, &["--report-only"]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("is no result of a run: missing field"), "{}", stderr(&output));
}
