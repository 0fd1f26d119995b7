//! Both programs in turn on the same pairs, and what came out side by side.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    arguments::{Arguments, Sweep},
    pairs,
    program::{Program, Run, Work},
    statistics::{Spread, table},
    sweep,
};

/// A row of the table: its name, what is read from a run, and whether less is better.
type Measure = (&'static str, fn(&Run) -> f64, bool);

const MEASURES: [Measure; 5] = [
    ("seconds per step", |run| run.figures.seconds_per_step, true),
    ("whole run, s", |run| run.figures.step_seconds.iter().sum(), true),
    ("pairs/s", |run| run.figures.pairs_per_second, false),
    ("peak memory, GB", |run| run.figures.peak_memory_bytes / 1e9, true),
    ("process from start to exit, s", |run| run.process_seconds, true),
];

/// Runs, prints and writes everything.
pub fn run(arguments: &Arguments) -> Result<()> {
    let tokenizer = pairs::tokenizer(arguments)?;
    let (file, pairs) = pairs::write_first(arguments, &tokenizer)?;
    if pairs < arguments.pairs {
        eprintln!("{}: only {pairs} pairs fit", arguments.data.display());
    }
    let work = Work {
        file: &file,
        pairs,
        pairs_per_step: arguments.pairs_per_step,
        max_length: arguments.max_length,
    };
    let mut runs: BTreeMap<Program, Vec<Run>> = BTreeMap::new();
    for round in 1..=arguments.repeat {
        // asft first: what is wrong with a setting shows within seconds.
        for program in [Program::Asft, Program::Trl] {
            let run = program.run(arguments, &work)?;
            let figures = &run.figures;
            eprintln!(
                "run {round}/{} of {}: {:.1} s, {:.2} GB",
                arguments.repeat,
                program.name(),
                figures.step_seconds.iter().sum::<f64>(),
                figures.peak_memory_bytes / 1e9
            );
            ensure!(
                figures.pairs == pairs,
                "{} trained on {} of {pairs} pairs\nhint: settings that drop pairs cannot be compared",
                program.name(),
                figures.pairs
            );
            runs.entry(program).or_default().push(run);
        }
    }
    let text = report(arguments, &runs[&Program::Trl], &runs[&Program::Asft]);
    print!("{text}");
    write(arguments, "table.md", &text)?;
    let mut results = json!({"pairs": pairs, "pairs_per_step": arguments.pairs_per_step});
    for (program, runs) in &runs {
        let raw: Vec<Value> = runs
            .iter()
            .map(|run| {
                let mut raw = run.raw.clone();
                raw["process_seconds"] = run.process_seconds.into();
                raw
            })
            .collect();
        results[program.name()] = raw.into();
    }
    // Before the plots, which take longer than all of this where they are of both.
    write(arguments, "peer.json", &format!("{results:#}\n"))?;
    if arguments.sweep != Sweep::None {
        results["sweep"] = sweep::run(arguments, tokenizer)?;
        write(arguments, "peer.json", &format!("{results:#}\n"))?;
    }
    eprintln!("written to {}", arguments.output.display());
    Ok(())
}

/// Writes a file of results.
pub fn write(arguments: &Arguments, name: &str, text: &str) -> Result<()> {
    let path = arguments.output.join(name);
    fs::write(&path, text).with_context(|| format!("{}: cannot be written", path.display()))
}

/// The tables as Markdown.
fn report(arguments: &Arguments, trl: &[Run], asft: &[Run]) -> String {
    let [first_trl, first_asft] = [&trl[0], &asft[0]];
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let mut text_of = format!(
        "{} pairs, {} a step. TRL {}, torch {}, {}. Median of {} run{} each, in turn (least–most).\n\
         Tokens: {} with prompts shared (asft); {} with each prompt twice, {} with padding (TRL).\n\n",
        first_asft.figures.pairs,
        arguments.pairs_per_step,
        text(&first_trl.raw["versions"]["trl"]),
        text(&first_trl.raw["versions"]["torch"]),
        text(&first_trl.raw["dtype"]),
        trl.len(),
        if trl.len() == 1 { "" } else { "s" },
        first_asft.figures.tokens,
        first_trl.figures.tokens,
        first_trl.figures.padded_tokens.unwrap_or(first_trl.figures.tokens),
    );
    let header = ["", "TRL", "asft", "asft better by"].map(str::to_owned).to_vec();
    let mut rows = vec![header];
    for (name, read, less_is_better) in MEASURES {
        let [trl, asft] = [trl, asft].map(|runs| Spread::of(runs.iter().map(read)));
        let ratio = match less_is_better {
            true => trl.median / asft.median,
            false => asft.median / trl.median,
        };
        rows.push(vec![name.to_owned(), trl.to_string(), asft.to_string(), format!("{ratio:.2}×")]);
    }
    text_of += &table(&rows);
    text_of += "\nLoss with the likelihood over prompt and chosen answer, mean over a step's tokens; first run of each:\n\n";
    let mut rows = vec![["step", "TRL", "asft", "difference"].map(str::to_owned).to_vec()];
    for (step, (trl, asft)) in first_trl.figures.losses.iter().zip(&first_asft.figures.losses).enumerate() {
        let losses = [format!("{trl:.4}"), format!("{asft:.4}"), format!("{:+.4}", asft - trl)];
        rows.push([vec![(step + 1).to_string()], losses.to_vec()].concat());
    }
    text_of + &table(&rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde::Deserialize;

    use super::*;
    use crate::program::Figures;

    fn run(seconds: f64, peak: f64, loss: f64) -> Run {
        let raw = json!({
            "seconds_per_step": seconds, "step_seconds": [seconds, seconds], "pairs_per_second": 4.0 / seconds,
            "peak_memory_bytes": peak, "pairs": 8, "tokens": 700, "padded_tokens": 900, "losses": [loss, loss],
            "dtype": "bf16", "versions": {"trl": "1.16", "torch": "2.9"},
        });
        Run { figures: Figures::deserialize(&raw).unwrap(), process_seconds: seconds + 1.0, raw }
    }

    #[test]
    fn ratios_say_how_much_better_asft_is() {
        let arguments = Arguments::parse_from(["peer", "--python", "p", "--model", "m", "--data", "d"]);
        let trl = [run(40.0, 20e9, 2.0), run(44.0, 20e9, 2.0), run(42.0, 20e9, 2.0)];
        let asft = [run(10.0, 4e9, 2.01), run(10.5, 4e9, 2.01), run(11.0, 4e9, 2.01)];
        let report = report(&arguments, &trl, &asft);
        let row = |name: &str| -> Vec<&str> {
            let line = report.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap();
            line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).skip(1).collect()
        };
        assert_eq!(row("seconds per step"), ["42.0 (40.0–44.0)", "10.5 (10.0–11.0)", "4.00×"]);
        assert_eq!(row("whole run, s")[2], "4.00×");
        assert_eq!(row("pairs/s")[2], "4.00×");
        assert_eq!(row("peak memory, GB"), ["20.0 (20.0–20.0)", "4.00 (4.00–4.00)", "5.00×"]);
        assert_eq!(row("2"), ["2.0000", "2.0100", "+0.0100"]);
        assert!(report.contains("8 pairs, 4 a step") && report.contains("900 with padding"), "{report}");
    }
}
