//! Made-up substitute judges against recorded ones.

use std::path::PathBuf;

use asft_eval::{
    arena_hard::read_answers,
    calibrate::{Calibration, ENOUGH_ITEMS, calibrate},
    mt_bench::Questions,
};
use serde_json::{Value, json};

use crate::{golden, shared::data};

/// Every golden value; what is not in the golden must be undefined.
#[track_caller]
fn assert_matches(value: &Value, golden: &Value, at: &str) {
    match (value, golden) {
        (Value::Object(value), Value::Object(golden)) => {
            for (key, expected) in golden {
                assert_matches(value.get(key).unwrap_or(&Value::Null), expected, &format!("{at}.{key}"));
            }
            for (key, value) in value {
                assert!(golden.contains_key(key) || value.is_null(), "{at}.{key} is not in the golden");
            }
        }
        _ => match (value.as_f64(), golden.as_f64()) {
            (Some(value), Some(golden)) if (value - golden).abs() < 1e-12 => {}
            _ => panic!("{at}: {value} instead of {golden}"),
        },
    }
}

fn questions() -> Option<Questions> {
    Some(Questions::read(&data("mt_bench/question.jsonl")?).unwrap())
}

fn recorded_games(judge: &str, model: &str) -> Option<PathBuf> {
    data(&format!("arena_hard_v0.1/model_judgment/{judge}/{model}.jsonl"))
}

#[test]
fn ratings_of_a_substitute() {
    let (Some(golden), Some(questions)) = (data("golden/calibration_golden.json"), questions()) else {
        return;
    };
    let Some(recorded) = data("mt_bench/model_judgment/gpt-4_single-origin.jsonl") else { return };
    let Some(substitute) = data("calibration/synthetic-substitute_single.jsonl") else { return };
    let calibration = calibrate(&recorded, &substitute, Some(&questions), &[]).unwrap();
    assert_matches(&json!(calibration), &golden::read(&golden)["mt_bench_single"], "single");
    assert!(calibration.items() >= ENOUGH_ITEMS);
}

#[test]
fn verdicts_of_a_substitute() {
    let Some(golden) = data("golden/calibration_golden.json").map(|path| golden::read(&path)) else { return };
    for (judge, model) in [
        ("gpt-4-1106-preview", "Pythia-12B-DPO-UltraFeedback"),
        ("gpt-4-1106-preview", "mistral-7b"),
        ("synthetic-length-judge", "llama-3-8b-instruct"),
    ] {
        let Some(recorded) = recorded_games(judge, model) else { return };
        let Some(substitute) = data(&format!("calibration/synthetic-substitute_arena_{model}.jsonl")) else {
            return;
        };
        let files = match model {
            "llama-3-8b-instruct" => vec!["gpt-4-0314", model],
            _ => vec![],
        };
        let answers: Option<Vec<PathBuf>> =
            files.iter().map(|file| data(&format!("arena_hard_v0.1/model_answer/{file}.jsonl"))).collect();
        let Some(answers) = answers else { return };
        let answers: Vec<_> = answers.iter().map(|path| read_answers(path).unwrap()).collect();
        let calibration = calibrate(&recorded, &substitute, None, &answers).unwrap();
        assert_matches(&json!(calibration), &golden[format!("arena_{model}")], model);
        assert!(matches!(calibration, Calibration::Verdicts(_)));
    }
}

#[test]
fn a_judge_agrees_with_itself() {
    let Some(recorded) = data("mt_bench/model_judgment/gpt-4_single-origin.jsonl") else { return };
    let Calibration::Ratings(ratings) = calibrate(&recorded, &recorded, None, &[]).unwrap() else {
        panic!("ratings")
    };
    assert_eq!((ratings.all.n, ratings.all.bias, ratings.all.exact), (320, 0.0, 1.0));
    assert_eq!((ratings.only_recorded_valid, ratings.all.quadratic_kappa), (0, Some(1.0)));
    assert!(ratings.by_category.is_empty());
}

#[test]
fn prompts_that_differ_are_not_the_same_judgment() {
    let Some(recorded) = data("mt_bench/model_judgment/gpt-4_single-origin.jsonl") else { return };
    let text = std::fs::read_to_string(&recorded).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let fails = |one: &PathBuf, two: &PathBuf| {
        let error = calibrate(one, two, None, &[]).err().unwrap();
        assert!(error.is_input());
        error.to_string()
    };
    let others = write("others.jsonl", &text.replace("\"user_prompt\": \"", "\"user_prompt\": \"!"));
    assert!(fails(&recorded, &others).contains("no judgment has a verdict in both"));
    let mixed = write("mixed.jsonl", &(text.clone() + &std::fs::read_to_string(&others).unwrap()));
    let error = fails(&recorded, &mixed);
    assert!(error.contains("mixed.jsonl: 320 judgments have rows with different prompts"), "{error}");
    let judges = write("judges.jsonl", &text.replacen("[\"gpt-4\"", "[\"gpt-5\"", 1));
    let error = fails(&judges, &recorded);
    assert!(error.contains("judges.jsonl: ") && error.contains("several judges: gpt-4, gpt-5"), "{error}");
    let Some(games) = recorded_games("gpt-4-1106-preview", "mistral-7b") else { return };
    let error = fails(&recorded, &games);
    assert!(
        error.contains("holds MT-Bench ratings, and ") && error.contains("Arena-Hard v0.1 judgments"),
        "{error}"
    );
    let Some(questions) = questions() else { return };
    let fewer = Questions { rows: questions.rows[1..].to_vec() };
    let error = calibrate(&recorded, &recorded, Some(&fewer), &[]).err().unwrap().to_string();
    assert!(error.contains("question 81 is not among the questions"), "{error}");
}
