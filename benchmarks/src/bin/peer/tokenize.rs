//! How long both programs take from rows to token ids.

use std::{thread::available_parallelism, time::Instant};

use anyhow::{Context, Result};
use asft_data::{Dataset, truncation::Truncation};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    arguments::Arguments,
    compare::write,
    pairs,
    program::{figures, script},
    statistics::{Spread, table},
};

/// Trainers of TRL and the processes their data sets are prepared in.
const PREPARATIONS: [(&str, usize); 4] = [("orpo", 1), ("orpo", 2), ("dpo", 1), ("dpo", 2)];

#[derive(Deserialize)]
struct Prepared {
    seconds: f64,
    rows: usize,
    prompt_tokens: usize,
    response_tokens: usize,
}

/// Runs all in turn, prints the table, writes it and `tokenization.json`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let file = pairs::write_all(arguments)?;
    let threads = available_parallelism().map_or(1, usize::from);
    let mut runs: Vec<(String, Vec<Prepared>)> = vec![(format!("asft, {threads} threads"), vec![])];
    runs.extend(PREPARATIONS.map(|(trainer, processes)| {
        (
            format!(
                "TRL {}Trainer, {processes} process{}",
                trainer.to_uppercase(),
                if processes == 1 { "" } else { "es" }
            ),
            vec![],
        )
    }));
    let mut raw: Vec<Value> = vec![];
    for round in 1..=arguments.repeat {
        for (index, (name, runs)) in runs.iter_mut().enumerate() {
            let value = match index.checked_sub(1) {
                None => asft(arguments)?,
                Some(index) => {
                    let (trainer, processes) = PREPARATIONS[index];
                    let mut command = script(&arguments.python, "trl_tokenize.py");
                    command.arg("--tokenizer").arg(&arguments.model).arg("--data").arg(&file);
                    command.args(["--trainer", trainer, "--processes", &processes.to_string()]);
                    command.args(["--max-length", &arguments.max_length.to_string()]);
                    figures(name, command)?
                }
            };
            let prepared =
                Prepared::deserialize(&value).with_context(|| format!("{name} printed {value}"))?;
            eprintln!("run {round}/{} of {name}: {:.3} s", arguments.repeat, prepared.seconds);
            runs.push(prepared);
            raw.push(json!({"name": name, "run": value}));
        }
    }
    let text = report(&runs);
    print!("{text}");
    write(arguments, "tokenization.md", &text)?;
    write(arguments, "tokenization.json", &format!("{:#}\n", Value::from(raw)))
}

/// Reading and encoding the file as it is, with a tokenizer that has seen no text yet.
fn asft(arguments: &Arguments) -> Result<Value> {
    let tokenizer = pairs::tokenizer(arguments)?;
    // As TRL: what is too long is cut at its end.
    let options = pairs::options(arguments, &tokenizer, Truncation::KeepStart)?;
    let started = Instant::now();
    let dataset = Dataset::load(&options, &tokenizer)?;
    let seconds = started.elapsed().as_secs_f64();
    let report = dataset.report;
    Ok(json!({
        "seconds": seconds, "rows": report.kept, "prompt_tokens": report.prompt_tokens.total,
        "response_tokens": report.response_tokens.total,
    }))
}

fn report(runs: &[(String, Vec<Prepared>)]) -> String {
    let seconds = |runs: &[Prepared]| Spread::of(runs.iter().map(|run| run.seconds));
    let ours = runs.first().map_or(f64::NAN, |(_, runs)| seconds(runs).median);
    let header = ["", "seconds", "rows", "prompt tokens", "answer tokens", "asft faster by"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for (index, (name, runs)) in runs.iter().enumerate() {
        let (spread, first) = (seconds(runs), &runs[0]);
        let ratio = if index == 0 { String::new() } else { format!("{:.1}×", spread.median / ours) };
        let counts = [first.rows, first.prompt_tokens, first.response_tokens].map(|count| count.to_string());
        rows.push([vec![name.clone(), spread.to_string()], counts.to_vec(), vec![ratio]].concat());
    }
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_what_others_are_held_against() {
        let runs = |seconds: [f64; 2]| -> Vec<Prepared> {
            seconds
                .map(|seconds| Prepared { seconds, rows: 10, prompt_tokens: 20, response_tokens: 30 })
                .into()
        };
        let text = report(&[("asft".into(), runs([0.2, 0.3])), ("TRL".into(), runs([5.0, 5.0]))]);
        let cells = |line: usize| -> Vec<&str> {
            text.lines().nth(line).unwrap().trim_matches('|').split('|').map(str::trim).collect()
        };
        assert_eq!(cells(2), ["asft", "0.250 (0.200–0.300)", "10", "20", "30", ""]);
        assert_eq!(cells(3), ["TRL", "5.00 (5.00–5.00)", "10", "20", "30", "20.0×"]);
    }
}
