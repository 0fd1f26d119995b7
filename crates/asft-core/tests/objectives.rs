//! Every objective against values computed from its definition with hundreds of digits.
//!
//! `tests/goldens/objectives.json` is made by `goldens/objectives.py`. The larger set beside the project, which was
//! also compared with TRL's loss code, is read where it is present.

use std::path::Path;

use asft_core::{MetricsSum, Objective, PairScores};
use serde_json::{Value, json};

const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/objectives.json");
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/goldens/objectives.json");

fn load(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn entries<'a>(file: &'a Value, key: &str) -> Vec<&'a Value> {
    file[key].as_array().unwrap().iter().collect()
}

fn count(entries: &[&Value], name: &str) -> usize {
    entries.iter().filter(|entry| entry["objective"] == name).count()
}

fn objective(entry: &Value) -> Objective {
    let name = entry["objective"].as_str().unwrap();
    let objective: Objective = serde_json::from_value(json!({name: entry["hyper"]})).unwrap();
    objective.validate().unwrap();
    objective
}

/// Compares every field of `want` with the same of `got`; `path` tells where.
fn compare(got: &Value, want: &Value, path: &str) {
    match want {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, want)| compare(&got[key], want, &format!("{path}.{key}")))
        }
        Value::Array(items) => {
            assert_eq!(got.as_array().map(Vec::len), Some(items.len()), "{path}");
            items.iter().enumerate().for_each(|(i, want)| compare(&got[i], want, &format!("{path}[{i}]")));
        }
        Value::Number(want) => {
            let (got, want) =
                (got.as_f64().unwrap_or_else(|| panic!("{path}: {got}")), want.as_f64().unwrap());
            // metrics may be differences that cancel
            let floor = if path.contains(".metrics.") { 1e-12 } else { 1e-30 };
            assert!((got - want).abs() <= 1e-12 * want.abs() + floor, "{path}: got {got:e}, want {want:e}");
        }
        other => assert_eq!(got, other, "{path}"),
    }
}

fn check_cases(cases: &[&Value]) {
    for case in cases {
        let scores: PairScores = serde_json::from_value((*case).clone()).unwrap();
        let report = objective(case).report_pair(&scores).unwrap();
        let got = serde_json::to_value(&report).unwrap();
        compare(&got, &case["expected"], case["id"].as_str().unwrap());
        let has_prompt = got.get("grad_prompt").is_some();
        assert_eq!(has_prompt, case["expected"].get("grad_prompt").is_some(), "{}", case["id"]);
        let settings = serde_json::to_value(objective(case)).unwrap();
        let setting = |key: &str| settings[case["objective"].as_str().unwrap()][key].as_f64();
        let weight = match case["objective"].as_str() {
            Some("asft" | "orpo") => setting("beta").unwrap(),
            _ => 1.0,
        };
        let (nll, metrics) = (report.pair.metrics.nll.unwrap(), report.pair.metrics);
        let nll = setting("nll_weight").unwrap_or(1.0) * nll;
        assert_eq!(metrics.loss, nll + weight * metrics.align, "{}", case["id"]);
    }
}

fn check_batches(batches: &[&Value]) {
    for batch in batches {
        let id = batch["id"].as_str().unwrap();
        let (objective, pairs) = (objective(batch), &batch["pairs"]);
        let pairs: Vec<PairScores> = serde_json::from_value(pairs.clone()).unwrap();
        let step = objective.report_step(&pairs).unwrap();
        compare(&serde_json::to_value(&step).unwrap(), &batch["expected"], id);

        // the same step in micro-batches: the same bits, pair for pair and in the means
        let micro_batches: Vec<Vec<usize>> = serde_json::from_value(batch["micro_batches"].clone()).unwrap();
        let (norm, mut metrics, mut seen) = (objective.norm(&pairs), MetricsSum::default(), 0);
        for micro_batch in micro_batches {
            let mut sums = MetricsSum::default();
            for pair in micro_batch {
                let result = objective.evaluate(&pairs[pair], &norm).unwrap();
                assert_eq!(result.grad.chosen.to_bits(), step.grad_chosen[pair].to_bits(), "{id}");
                assert_eq!(result.grad.rejected.to_bits(), step.grad_rejected[pair].to_bits(), "{id}");
                assert_eq!(result.grad.prompt, step.grad_prompt.as_ref().map(|grads| grads[pair]), "{id}");
                sums.add(&result.metrics);
                seen += 1;
            }
            metrics.merge(&sums);
        }
        assert_eq!(seen, pairs.len(), "{id}");
        assert_eq!(metrics.mean(), Some(step.metrics), "{id}");
    }
}

#[test]
fn own_goldens() {
    let file = load(OWN);
    let (cases, batches) = (entries(&file, "cases"), entries(&file, "batches"));
    let counts = [
        ("asft", 21, 5),
        ("sft", 6, 5),
        ("orpo", 11, 5),
        ("simpo", 13, 1),
        ("cpo", 13, 5),
        ("slic", 13, 5),
        ("dpo", 11, 1),
        ("robust", 11, 1),
        ("hinge", 11, 1),
        ("ipo", 11, 1),
        ("sigmoid_norm", 11, 1),
        ("nca", 11, 1),
        ("bco", 11, 1),
        ("kto", 11, 1),
        ("apo_down", 11, 1),
    ];
    assert_eq!(counts.map(|(name, ..)| name), Objective::NAMES);
    for (name, n_cases, n_batches) in counts {
        assert_eq!((count(&cases, name), count(&batches, name)), (n_cases, n_batches), "{name}");
    }
    check_cases(&cases);
    check_batches(&batches);
}

#[test]
fn shared_goldens() {
    if !Path::new(SHARED).exists() {
        println!("skipped: shared/goldens/objectives.json is not beside the project");
        return;
    }
    let file = load(SHARED);
    let (cases, batches) = (entries(&file, "cases"), entries(&file, "batches"));
    assert!(cases.len() >= 68 && batches.len() >= 6, "{} cases, {} batches", cases.len(), batches.len());
    // The last one was added later, with goldens of our own alone.
    for name in Objective::NAMES.iter().filter(|name| **name != "apo_down") {
        assert!(count(&cases, name) >= 2, "{name} cases: {}", count(&cases, name));
    }
    check_cases(&cases);
    check_batches(&batches);
}
