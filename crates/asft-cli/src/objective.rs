//! `asft objective`.

use std::path::PathBuf;

use asft_core::{Objective, PairScores};
use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{failure::Failure, output, score};

#[derive(Args)]
pub struct Arguments {
    /// Name of the objective.
    name: String,
    /// Cases and batches of log-probs (JSON); those of other objectives are passed over.
    #[arg(long, value_name = "F.json")]
    input: PathBuf,
    /// Sets one key of the objective, which wins over the file's; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Where the result goes instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    cases: Vec<Entry>,
    #[serde(default)]
    batches: Vec<Entry>,
}

/// A case or a batch, with its fields as they came.
type Entry = Map<String, Value>;

/// What the output leaves out of an entry: expectations, and notes about them.
const IGNORED: [&str; 3] = ["expected", "tags", "checked_against"];

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    score::by_name(&arguments.name)?;
    let file = arguments.input.display();
    if let Some(output) = &arguments.output {
        output::check_writable(output, std::slice::from_ref(&arguments.input))?;
    }
    let bytes =
        std::fs::read(&arguments.input).map_err(|error| Failure::input(format!("{file}: {error}")))?;
    let input: Input =
        serde_json::from_slice(&bytes).map_err(|error| Failure::input(format!("{file}: {error}")))?;
    let overrides =
        arguments.assignments.iter().map(|text| assignment(text)).collect::<Result<Vec<_>, _>>()?;
    let evaluate = |kind: &str, entries: Vec<Entry>| -> Result<Vec<Value>, Failure> {
        let named = entries
            .into_iter()
            .enumerate()
            .filter(|(_, entry)| entry.get("objective") == Some(&json!(arguments.name)));
        named
            .map(|(index, entry)| {
                let id = entry.get("id").and_then(Value::as_str).unwrap_or("without id").to_owned();
                evaluate(&arguments.name, &overrides, entry)
                    .map_err(|error| Failure::input(format!("{file}: {kind}[{index}] ({id}): {error}")))
            })
            .collect()
    };
    let cases = evaluate("cases", input.cases)?;
    let batches = evaluate("batches", input.batches)?;
    if cases.is_empty() && batches.is_empty() {
        return Err(Failure::input(format!(
            "{file}: holds no case or batch of objective {}",
            arguments.name
        )));
    }
    let result = json!({"schema": 1, "kind": "objectives", "cases": cases, "batches": batches});
    output::write(arguments.output.as_ref(), &format!("{result:#}\n"))
}

fn evaluate(name: &str, overrides: &[(String, Value)], mut entry: Entry) -> anyhow::Result<Value> {
    let mut hyper = match entry.remove("hyper") {
        None => Map::new(),
        Some(Value::Object(hyper)) => hyper,
        Some(other) => anyhow::bail!("hyper must be an object, got {other}"),
    };
    hyper.extend(overrides.iter().cloned());
    let objective: Objective = serde_json::from_value(json!({name: &hyper}))?;
    objective.validate()?;
    let result = match entry.get("pairs") {
        Some(pairs) => {
            let pairs: Vec<PairScores> = serde_json::from_value(pairs.clone())?;
            serde_json::to_value(objective.report_step(&pairs)?)?
        }
        None => {
            let pair: PairScores = serde_json::from_value(Value::Object(entry.clone()))?;
            serde_json::to_value(objective.report_pair(&pair)?)?
        }
    };
    entry.retain(|key, _| !IGNORED.contains(&key.as_str()));
    entry.insert("hyper".to_owned(), Value::Object(hyper));
    entry.insert("result".to_owned(), result);
    Ok(Value::Object(entry))
}

fn assignment(text: &str) -> Result<(String, Value), Failure> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
        Failure::input(format!("--set {text}: write --set key=value, for example --set beta=0.3"))
    })?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((key.to_owned(), value))
}
