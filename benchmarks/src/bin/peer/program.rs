//! Runs of both programs, each a process of its own that prints its figures as JSON.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::arguments::Arguments;

/// Settings of OpenBLAS that make torch and numpy slow where they are set for another machine.
const OPENBLAS: [&str; 2] = ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"];

/// Lines of a failed program's standard error that are shown.
const TAIL: usize = 20;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    Trl,
    Asft,
}

/// One step's worth of work after the other, in file order.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// Pairs as conversations, JSON Lines.
    pub file: &'a Path,
    pub pairs: usize,
    pub pairs_per_step: usize,
    pub max_length: usize,
}

/// What both programs print.
#[derive(Clone, Debug, Deserialize)]
pub struct Figures {
    pub seconds_per_step: f64,
    pub step_seconds: Vec<f64>,
    pub pairs_per_second: f64,
    pub peak_memory_bytes: f64,
    pub pairs: usize,
    /// TRL counts prompts twice, asft once.
    pub tokens: usize,
    /// Only TRL pads.
    pub padded_tokens: Option<usize>,
    pub losses: Vec<f64>,
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Run {
    pub figures: Figures,
    /// From start to exit of the process.
    pub process_seconds: f64,
    /// Everything that was printed.
    pub raw: Value,
}

impl Program {
    /// Its name in tables and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trl => "TRL",
            Self::Asft => "asft",
        }
    }

    /// Trains on `work`.
    pub fn run(self, arguments: &Arguments, work: &Work<'_>) -> Result<Run> {
        let command = match self {
            Self::Trl => trl(arguments, work),
            Self::Asft => asft(arguments, work)?,
        };
        let started = Instant::now();
        let raw = figures(self.name(), command)?;
        let process_seconds = started.elapsed().as_secs_f64();
        let figures = Figures::deserialize(&raw).with_context(|| format!("{} printed {raw}", self.name()))?;
        Ok(Run { figures, process_seconds, raw })
    }
}

fn trl(arguments: &Arguments, work: &Work<'_>) -> Command {
    let mut command = script(&arguments.python, "trl.py");
    command.arg("--model").arg(&arguments.model).arg("--data").arg(work.file);
    command.args(["--dtype", arguments.dtype.name()]).args(sizes(work));
    command.args(["--max-length", &work.max_length.to_string()]);
    command
}

/// asft with the losses that TRL's trainer computes: likelihood over prompt and answer, mean over tokens.
fn asft(arguments: &Arguments, work: &Work<'_>) -> Result<Command> {
    let mut command = Command::new(arguments.asft()?);
    command.args(["bench", "train", "--backend", &arguments.backend]).args(sizes(work));
    command.arg("--model").arg(&arguments.model).arg("--data").arg(work.file);
    let conventions = [
        format!("data.max_length={}", work.max_length),
        r#"objective.asft.nll_scope="prompt_response""#.to_owned(),
        r#"objective.asft.nll_reduction="token""#.to_owned(),
    ];
    for assignment in conventions.iter().chain(&arguments.asft_set) {
        command.args(["--set", assignment]);
    }
    Ok(command)
}

fn sizes(work: &Work<'_>) -> [String; 4] {
    let (pairs, step) = (work.pairs.to_string(), work.pairs_per_step.to_string());
    ["--pairs".to_owned(), pairs, "--pairs-per-step".to_owned(), step]
}

/// A script of `benchmarks/peer` for `python`.
pub fn script(python: &Path, name: &str) -> Command {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "peer", name].iter().collect();
    let mut command = Command::new(python);
    command.arg(path);
    for name in OPENBLAS.iter().filter(|name| std::env::var_os(name).is_some()) {
        command.env_remove(name);
    }
    command
}

/// The JSON value that ends a program's standard output.
pub fn figures(name: &str, mut command: Command) -> Result<Value> {
    let words: Vec<OsString> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(Into::into).collect();
    let shown = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output = command.output().with_context(|| format!("{name} cannot be started: {shown}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{name} failed, {}: {shown}\n{}", output.status, tail(&said));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    match last_value(&printed) {
        Some(value) => Ok(value),
        None => bail!("{name} printed no figures: {shown}\n{}", tail(&printed)),
    }
}

/// The object at the end of a text, on one line or many, other output before it.
fn last_value(text: &str) -> Option<Value> {
    let starts = text.match_indices('{').filter(|&(at, _)| at == 0 || text[..at].ends_with('\n'));
    starts.map(|(at, _)| at).rev().find_map(|at| serde_json::from_str(&text[at..]).ok())
}

/// The last lines, without the earlier states of progress bars.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(|line| line.rsplit('\r').next().unwrap_or(line)).collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_end_the_output() {
        for (text, expected) in [
            ("{\"a\": 1}\n", Some(1)),
            ("{'loss': 2}\nnote {\n{\n  \"a\": 3,\n  \"b\": {\n    \"a\": 4\n  }\n}\n", Some(3)),
            ("", None),
            ("{\"a\": 1}\nTraceback", None),
        ] {
            assert_eq!(last_value(text).map(|value| value["a"].as_i64().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_failure_shows_the_end_of_what_was_said() {
        let lines: String = (1..=30).map(|line| format!("0%\r{line}%\n")).collect();
        assert_eq!(tail(&lines).lines().next(), Some("11%"));
        assert_eq!(tail(&lines).lines().last(), Some("30%"));
        let error = figures("asft", Command::new("no-such-program-of-ours")).unwrap_err().to_string();
        assert!(error.contains("asft cannot be started: no-such-program-of-ours"), "{error}");
    }
}
