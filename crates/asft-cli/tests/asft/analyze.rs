//! The paper's figures as a user makes them.

use crate::support::{Scratch, stderr};

/// A PNG with its signature, and an SVG that is whole.
fn pictures(scratch: &Scratch, name: &str) {
    let png = std::fs::read(scratch.path(&format!("{name}.png"))).unwrap();
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let svg = std::fs::read_to_string(scratch.path(&format!("{name}.svg"))).unwrap();
    assert!(svg.trim_start().starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}.svg");
}

#[test]
fn gradient_fields_show_the_papers_cases() {
    let scratch = Scratch::new();
    let table = scratch.ok(&["analyze", "gradient-field", "--output", "out", "--points", "13"]);
    // By hand from the closed forms at (0.95, 0.95): Bradley–Terry nearly stalls, ASFT pushes the rejected one.
    let case = table.lines().find(|line| line.contains("Case 2")).unwrap();
    assert!(case.contains("(+0.526, -0.526) | 1.000 | (+1.053, -20.000) | 0.053"), "{case}");
    pictures(&scratch, "out/gradient-field");
    for name in ["dpo", "asft", "orpo"] {
        let csv = std::fs::read_to_string(scratch.path(&format!("out/gradient-field-{name}.csv"))).unwrap();
        assert_eq!(csv.lines().count(), 1 + 13 * 13, "{name}");
    }
    let csv = std::fs::read_to_string(scratch.path("out/gradient-field-asft.csv")).unwrap();
    // x1 = x2 = 1/2: -log ½ twice, and slopes of 1/x1 and 1/(1 - x2).
    let middle = csv.lines().find(|line| line.starts_with("0.500000,0.500000,")).unwrap();
    let values: Vec<f64> = middle.split(',').map(|value| value.parse().unwrap()).collect();
    for (got, want) in values.iter().zip([0.5, 0.5, 2.0 * std::f64::consts::LN_2, 2.0, -2.0]) {
        assert!((got - want).abs() < 1e-9, "{middle}");
    }
    let page = std::fs::read_to_string(scratch.path("out/gradient-field.md")).unwrap();
    assert!(page.contains("There are no saddle points") && page.contains("gradient-field.svg"));
    let set = ["--objective", "dpo", "--set", "dpo.beta=0.5"];
    let table = scratch.ok(&[&["analyze", "gradient-field", "--output", "half"], &set[..]].concat());
    assert!(!table.contains("ASFT") && !table.contains("+19.000"), "{table}");
    let page = std::fs::read_to_string(scratch.path("half/gradient-field.md")).unwrap();
    assert!(!page.contains("saddle") && page.contains("\"beta\":0.5"), "{page}");
}

#[test]
fn trajectories_of_asft_end_in_one_place() {
    let scratch = Scratch::new();
    let table = scratch.ok(&["analyze", "trajectories", "--output", "out", "--starts", "3"]);
    let asft = table.lines().find(|line| line.starts_with("| ASFT")).unwrap();
    assert!(asft.contains("(0.995, 0.005) | 0.000 | +0.990") && asft.contains("9 of 9"), "{asft}");
    pictures(&scratch, "out/trajectories");
    let csv = std::fs::read_to_string(scratch.path("out/trajectories.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 3 * 9);
}

#[test]
fn margins_are_those_of_the_run() {
    let scratch = Scratch::new();
    scratch.config("");
    scratch.ok(&["train", "--config", "config.toml"]);
    let table = scratch.ok(&["analyze", "margins", "--run", "run", "--output", "out"]);
    pictures(&scratch, "out/margins");
    let metrics = std::fs::read_to_string(scratch.path("run/metrics.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> =
        metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let held_out: Vec<f64> =
        rows.iter().filter(|row| row["kind"] == "eval").map(|row| row["margin"].as_f64().unwrap()).collect();
    let (before, after) = (held_out[0], held_out[held_out.len() - 1]);
    let line = format!("| run | asft | {before:.4} | {after:.4} | {:+.4} |", after - before);
    assert!(table.contains(&line), "{table}");
    let csv = std::fs::read_to_string(scratch.path("out/margins.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + rows.len());
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let scratch = Scratch::new();
    let field = ["analyze", "gradient-field", "--output", "out"];
    let cases: [(&[&str], &str); 9] = [
        (&["--objective", "sft"], "no preference part"),
        (&["--objective", "dpoo"], "dpoo"),
        (&["--objective", "dpo", "--objective", "dpo"], "given twice"),
        (&["--set", "beta=1"], "names no objective"),
        (&["--set", "dpo.beta"], "has no ="),
        (&["--set", "dpo.beta=-1"], "objective.dpo.beta must be above 0"),
        (&["--set", "dpo.gamma=1"], "unknown field `gamma`"),
        (&["--set", "kto.beta=1"], "not looked at"),
        (&["--points", "1"], "--points"),
    ];
    for (more, expected) in cases {
        let output = scratch.run(&[&field[..], more].concat());
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {message}");
        assert!(message.contains(expected), "{more:?}: {message}");
    }
    scratch.config("");
    scratch.ok(&["train", "--config", "config.toml", "--set", "train.max_steps=1"]);
    let margins = ["analyze", "margins", "--output", "out", "--run", "run"];
    let output = scratch.run(&[&margins[..], &["--run", "run"]].concat());
    assert!(output.status.code() == Some(2) && stderr(&output).contains("given twice"));
    std::fs::write(scratch.path("run/metrics.jsonl"), "").unwrap();
    let output = scratch.run(&margins);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("holds no margin yet"));
    let output = scratch.run(&["analyze", "margins", "--run", "absent", "--output", "out"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("absent") && stderr(&output).contains("name a run directory"));
    assert!(!scratch.path("out").exists());
    let output = scratch.run(&["analyze", "trajectories", "--output", "out", "--time", "0"]);
    assert!(stderr(&output).contains("--time must be a number above 0"), "{}", stderr(&output));
}
