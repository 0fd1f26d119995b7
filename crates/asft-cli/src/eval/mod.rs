//! `asft eval`: text metrics, benchmarks with a judge, and what is known of judges.

mod alpaca;
mod answers;
mod arena_hard;
mod calibration;
mod categories;
mod judge;
mod judging;
mod mt_bench;
pub mod report;
mod table;
mod text;

use clap::Subcommand;
use serde::Serialize;

use crate::{failure::Failure, output};

#[derive(Subcommand)]
pub enum Command {
    /// BLEU and ROUGE of predictions against labels, in three conventions side by side.
    Text(text::Arguments),
    /// MT-Bench: answer its questions, have the answers judged, show the scores.
    #[command(subcommand)]
    MtBench(mt_bench::Command),
    /// Arena-Hard v0.1: answer its questions, have the answers judged, show the scores.
    #[command(subcommand)]
    ArenaHard(arena_hard::Command),
    /// Answers to Alpaca rows against their outputs: the paper's Table 3, greedy and with several seeds.
    Alpaca(alpaca::Arguments),
    /// Summaries of the other commands on one page.
    Report(report::Arguments),
    /// Judges: recorded verdicts, how a substitute agrees with them, a stub to try things with.
    #[command(subcommand)]
    Judge(judge::Command),
}

pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Text(arguments) => text::run(&arguments),
        Command::MtBench(command) => mt_bench::run(command),
        Command::ArenaHard(command) => arena_hard::run(command),
        Command::Alpaca(arguments) => alpaca::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Judge(command) => judge::run(command),
    }
}

/// Prints a summary as JSON, numbers as they are.
fn print_json(summary: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(summary).map_err(|error| Failure::Run(error.into()))?;
    output::print(&format!("{text}\n"))
}
