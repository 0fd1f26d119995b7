//! `asft bench reference`: what a reference model costs (the paper's Figure 2b).
//!
//! Each training is a process of its own, since the highest memory of a process never falls.

use std::process::Command;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::Workload;
use crate::{
    failure::Failure,
    output::{self, note},
};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    workload: Workload,
    /// Trainings of each kind, in turn; medians are compared.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    repeat: u16,
}

/// Name, objective and mode of what is compared; ASFT first.
const KINDS: [(&str, &str, &str); 3] =
    [("asft", "asft", "online"), ("dpo_online", "dpo", "online"), ("dpo_precomputed", "dpo", "precomputed")];

/// What the paper reports for ASFT against training with a reference model: less time, less memory.
const PAPER: [f64; 2] = [0.13, 0.167];

/// Seconds and bytes of one training.
#[derive(Clone, Copy)]
struct Cost {
    seconds: f64,
    bytes: f64,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let owned = |text: &&String| ["objective.", "reference."].iter().any(|table| text.starts_with(table));
    if let Some(text) = arguments.workload.assignments.iter().find(owned) {
        return Err(Failure::input(format!(
            "--set {text}: objectives and reference are what is compared here; bench train measures one setting"
        )));
    }
    let mut costs = [const { vec![] }; KINDS.len()];
    for round in 1..=arguments.repeat {
        for (kind, costs) in KINDS.iter().zip(&mut costs) {
            let cost = train(arguments, *kind)?;
            note!(
                "{} {round}/{}: {:.1} s, {:.2} GB",
                kind.0,
                arguments.repeat,
                cost.seconds,
                cost.bytes / 1e9
            );
            costs.push(cost);
        }
    }
    let medians = costs.map(|costs| Cost {
        seconds: median(costs.iter().map(|cost| cost.seconds).collect()),
        bytes: median(costs.iter().map(|cost| cost.bytes).collect()),
    });
    let [asft, others @ ..] = medians;
    let mut result = json!({
        "pairs": arguments.workload.pairs,
        "repeat": arguments.repeat,
        "paper": {"time_saved": PAPER[0], "memory_saved": PAPER[1]},
        KINDS[0].0: {"seconds": asft.seconds, "peak_memory_bytes": asft.bytes},
    });
    for ((name, ..), other) in KINDS[1..].iter().zip(others) {
        result[name] = json!({
            "seconds": other.seconds,
            "peak_memory_bytes": other.bytes,
            "time_saved": 1.0 - asft.seconds / other.seconds,
            "memory_saved": 1.0 - asft.bytes / other.bytes,
            "memory_saved_bytes": other.bytes - asft.bytes,
        });
    }
    output::print(&format!("{result:#}\n"))
}

/// One training by this very program; a first pass of the reference model counts.
fn train(arguments: &Arguments, (name, objective, mode): (&str, &str, &str)) -> Result<Cost, Failure> {
    let failed = |error: std::io::Error| Failure::Run(error.into());
    let cache = tempfile::tempdir().map_err(failed)?;
    let backend = arguments.workload.backend.to_possible_value().expect("every backend has a name");
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["bench", "train", "--objective", objective, "--backend", backend.get_name()]);
    command.arg("--model").arg(&arguments.workload.model).arg("--data").arg(&arguments.workload.data);
    command.args(["--pairs", &arguments.workload.pairs.to_string()]);
    command.args(["--pairs-per-step", &arguments.workload.pairs_per_step.to_string()]);
    for assignment in &arguments.workload.assignments {
        command.args(["--set", assignment]);
    }
    command.args(["--set", &format!("reference.mode={}", json!(mode))]);
    command.args(["--set", &format!("reference.cache={}", json!(cache.path()))]);
    let output = command.output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(2) => return Err(Failure::input(said.trim_end().trim_start_matches("error: "))),
        _ => return Err(Failure::Run(anyhow::anyhow!("{name}: {}", said.trim_end()))),
    }
    let figures: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| Failure::Run(error.into()))?;
    let figure = |key: &str| {
        figures[key].as_f64().ok_or_else(|| Failure::Run(anyhow::anyhow!("{name}: no figure {key}")))
    };
    let steps = figures["losses"].as_array().map_or(0, Vec::len) as f64;
    Ok(Cost {
        seconds: figure("seconds_per_step")? * steps + figure("reference_seconds")?,
        bytes: figure("peak_memory_bytes")?,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!([median(vec![3.0, 1.0, 2.0]), median(vec![4.0, 1.0]), median(vec![7.0])], [2.0, 2.5, 7.0]);
    }
}
