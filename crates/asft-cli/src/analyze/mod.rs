//! `asft analyze`: the paper's figures, from formulas and from runs.

mod gradient_field;
mod margins;
mod trajectories;

use std::path::{Path, PathBuf};

use asft_core::Objective;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::failure::Failure;

#[derive(Subcommand)]
pub enum Command {
    /// Loss surfaces and gradient fields over the likelihoods of both answers (the paper's Figure 1).
    GradientField(gradient_field::Arguments),
    /// Where gradient descent leads from a grid of starting points, how far and how fast.
    Trajectories(trajectories::Arguments),
    /// Likelihood margins of runs by step (the paper's Figure 2a).
    Margins(margins::Arguments),
}

pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::GradientField(arguments) => gradient_field::run(&arguments),
        Command::Trajectories(arguments) => trajectories::run(&arguments),
        Command::Margins(arguments) => margins::run(&arguments),
    }
}

/// Which objectives to look at, and where the pictures go.
#[derive(Args)]
pub struct PlaneArguments {
    /// Objectives to compare. The reference model of those that have one gives every answer probability 1.
    #[arg(long = "objective", value_name = "NAME", default_values = ["dpo", "asft", "orpo"])]
    objectives: Vec<String>,
    /// Sets one key of an objective; may be repeated. beta is 1 for all unless set.
    #[arg(long = "set", value_name = "NAME.KEY=VALUE")]
    assignments: Vec<String>,
    /// Directory for pictures (SVG and PNG) and tables (CSV, Markdown).
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

impl PlaneArguments {
    /// The objectives with their settings.
    fn objectives(&self) -> Result<Vec<Objective>, Failure> {
        let mut settings: Vec<(&str, Map<String, Value>)> = vec![];
        for name in &self.objectives {
            let objective = crate::score::by_name(name)?;
            if !objective.needs_rejected() {
                return Err(Failure::input(format!(
                    "--objective {name} has no preference part to look at: its loss is the chosen answer's alone"
                )));
            }
            if settings.iter().any(|(other, _)| other == name) {
                return Err(Failure::input(format!("--objective {name} is given twice")));
            }
            let defaults = serde_json::to_value(&objective).map_err(|error| Failure::Run(error.into()))?;
            let mut keys = Map::new();
            if defaults[name].get("beta").is_some() {
                keys.insert("beta".to_owned(), json!(1.0));
            }
            settings.push((name, keys));
        }
        for text in &self.assignments {
            let wrong =
                |what: &str| Failure::input(format!("--set {text}: {what}\nhint: write --set dpo.beta=0.1"));
            let (path, value) = text.split_once('=').ok_or_else(|| wrong("has no ="))?;
            let (name, key) = path.split_once('.').ok_or_else(|| wrong("names no objective"))?;
            let (_, keys) = settings
                .iter_mut()
                .find(|(other, _)| *other == name)
                .ok_or_else(|| wrong("is of an objective that is not looked at; add --objective for it"))?;
            let value = serde_json::from_str(value).map_err(|error| wrong(&error.to_string()))?;
            keys.insert(key.to_owned(), value);
        }
        let objective = |(name, keys): (&str, Map<String, Value>)| {
            let objective: Objective = serde_json::from_value(json!({name: keys}))
                .map_err(|error| Failure::input(format!("objective {name}: {error}")))?;
            objective.validate().map_err(|error| Failure::input(error.to_string()))?;
            Ok(objective)
        };
        settings.into_iter().map(objective).collect()
    }
}

/// The settings of objectives, a line each, for a page.
fn settings(objectives: &[Objective]) -> String {
    let line = |objective: &Objective| {
        let keys = serde_json::to_string(objective).expect("settings are numbers and names");
        format!("- {}: `{keys}`\n", title(objective))
    };
    objectives.iter().map(line).collect()
}

/// Makes the directory.
fn create(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)
        .map_err(|error| Failure::input(format!("--output {}: {error}", directory.display())))
}

/// Name of an objective as a title.
fn title(objective: &Objective) -> String {
    match objective.name() {
        "dpo" => "Bradley–Terry (DPO)".to_owned(),
        name => name.to_uppercase(),
    }
}
