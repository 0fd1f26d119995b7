//! `asft analyze margins`.

use std::path::PathBuf;

use asft_train::{Kind, RunConfig, run_directory::read_metrics};
use clap::Args;

use super::create;
use crate::{
    failure::Failure,
    figure::{self, Panel},
    output,
};

#[derive(Args)]
pub struct Arguments {
    /// Run directories.
    #[arg(long = "run", value_name = "DIR", required = true)]
    runs: Vec<PathBuf>,
    /// Directory for pictures (SVG and PNG) and the table (CSV).
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

/// A point of a curve: step and value.
type Curve = (String, Vec<[f64; 2]>);

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut curves: [Vec<Curve>; 3] = Default::default();
    let mut csv = "run,kind,step,margin,logps_chosen,logps_rejected\n".to_owned();
    let mut table =
        "| run | objective | held-out margin before | after | change |\n|---|---|---|---|---|\n".to_owned();
    for (index, run) in arguments.runs.iter().enumerate() {
        if arguments.runs[..index].contains(run) {
            return Err(Failure::input(format!("--run {} is given twice", run.display())));
        }
        let name = run.display().to_string();
        let config = run.join("config.toml");
        let text = std::fs::read_to_string(&config).map_err(|error| {
            Failure::input(format!("{}: {error}\nhint: name a run directory", config.display()))
        })?;
        let config = RunConfig::parse(&text, &config.display().to_string(), None, &[])?;
        let objective = config.objective.name();
        let rows = read_metrics(run)?;
        if !rows.iter().any(|row| row.metrics.margin.is_some()) {
            return Err(Failure::input(format!(
                "{name}: its metrics.jsonl holds no margin yet\nhint: wait for the run's first step; a run on demonstrations has none"
            )));
        }
        for row in &rows {
            let optional = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
            let kind = if row.kind == Kind::Eval { "eval" } else { "train" };
            csv += &format!(
                "{name},{kind},{},{},{},{}\n",
                row.step,
                optional(row.metrics.margin),
                row.metrics.logps_chosen,
                optional(row.metrics.logps_rejected)
            );
        }
        let curve = |kind: Kind| {
            let points = rows.iter().filter(|row| row.kind == kind);
            let points: Vec<[f64; 2]> =
                points.filter_map(|row| Some([row.step as f64, row.metrics.margin?])).collect();
            (format!("{objective} ({name})"), points)
        };
        let held_out = curve(Kind::Eval);
        if held_out.1.is_empty() {
            table += &format!("| {name} | {objective} | no held-out pairs | | |\n");
        } else if let ([[_, before], ..], [.., [_, after]]) = (&held_out.1[..], &held_out.1[..]) {
            table +=
                &format!("| {name} | {objective} | {before:.4} | {after:.4} | {:+.4} |\n", after - before);
        }
        let chosen = rows.iter().filter(|row| row.kind == Kind::Eval);
        let chosen: Vec<[f64; 2]> = chosen.map(|row| [row.step as f64, row.metrics.logps_chosen]).collect();
        curves[2].push((held_out.0.clone(), chosen));
        curves[0].push(held_out);
        curves[1].push(curve(Kind::Train));
    }
    create(&arguments.output)?;
    let titles = [
        ("Held-out likelihood margin", "margin, nats per token"),
        ("Training likelihood margin", "margin, nats per token"),
        ("Held-out log-prob of the chosen answer", "nats per token"),
    ];
    let panels = titles
        .into_iter()
        .zip(&curves)
        .filter(|(_, curves)| curves.iter().any(|(_, points)| !points.is_empty()))
        .map(|((title, y), curves)| Panel::lines(title, ["step", y], curves))
        .collect();
    figure::write(&arguments.output, "margins", vec![panels], [620.0, 420.0])?;
    output::write_file(&arguments.output.join("margins.csv"), csv.as_bytes())?;
    output::print(&format!("{table}\n{}\n", arguments.output.join("margins.svg").display()))
}
