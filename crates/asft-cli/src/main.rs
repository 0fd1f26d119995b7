//! The `asft` command.

mod allocator;
mod analyze;
mod backend;
mod bench;
mod compare;
mod devices;
mod eval;
mod export;
mod failure;
mod fetch;
mod figure;
mod generate;
mod inspect;
mod interrupt;
mod number;
mod objective;
mod output;
mod progress;
mod ranks;
mod score;
mod train;

use std::{io::IsTerminal, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::failure::Failure;

/// Preference alignment of Llama-style models, by absolute likelihoods or against a reference model.
///
/// ASFT here is Aligned Supervised Fine-Tuning (arXiv 2409.10571), which trains on preference pairs; not
/// Anchored SFT (arXiv 2509.23753), which other programs also call ASFT.
#[derive(Parser)]
#[command(name = "asft", version, arg_required_else_help = true)]
struct Arguments {
    /// Log more (-v: debug, -vv: trace); RUST_LOG is honoured too.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model on preference pairs; without --config, the embedded quickstart.
    Train(train::Arguments),
    /// Log-probs of every pair's answers under a model.
    Score(score::Arguments),
    /// Loss, derivatives and metrics from given log-probs, without a model.
    Objective(objective::Arguments),
    /// Look at preference data as training will see it.
    #[command(subcommand)]
    Data(DataCommand),
    /// The paper's figures, from formulas and from runs.
    #[command(subcommand)]
    Analyze(analyze::Command),
    /// Train several objectives alike and report how they compare.
    Compare(compare::Arguments),
    /// Answer prompts with a model.
    Generate(generate::Arguments),
    /// Measure answers: BLEU and ROUGE, MT-Bench, Arena-Hard, and the judges themselves.
    #[command(subcommand)]
    Eval(eval::Command),
    /// Write a model as a Hugging Face directory.
    Export(export::Arguments),
    /// What each backend computes on here, and how fast.
    Devices(devices::Arguments),
    /// Fetch a model or a data set.
    Fetch(fetch::FetchArgs),
    /// Measure speed and memory; one JSON object on standard output.
    #[command(subcommand)]
    Bench(bench::Command),
}

#[derive(Subcommand)]
enum DataCommand {
    /// Schema, token counts, drops by reason, and the scored tokens of the first rows.
    Inspect(inspect::Arguments),
}

fn main() -> ExitCode {
    let matches = with_negative_values(Arguments::command()).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    #[cfg(all(feature = "tch", unix))]
    backend::openmp::sleep_when_idle();
    start_log(arguments.verbose);
    let done = match matches.subcommand_name() {
        Some("train") | None => run(arguments.command),
        Some(name) => ranks::refuse_several(name).and_then(|()| run(arguments.command)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Train(arguments) => train::run(arguments),
        Command::Score(arguments) => score::run(arguments),
        Command::Objective(arguments) => objective::run(arguments),
        Command::Data(DataCommand::Inspect(arguments)) => inspect::run(arguments),
        Command::Analyze(command) => analyze::run(command),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Eval(command) => eval::run(command),
        Command::Export(arguments) => export::run(arguments),
        Command::Devices(arguments) => devices::run(arguments),
        Command::Fetch(arguments) => fetch::run(&arguments).map_err(fetch_failure),
        Command::Bench(command) => bench::run(command),
    }
}

/// Takes `-1` after an option for its value, which may be told to be out of range, and not for a flag of the name 1.
fn with_negative_values(command: clap::Command) -> clap::Command {
    let values = |argument: clap::Arg| {
        let takes_values = argument.get_action().takes_values();
        argument.allow_negative_numbers(takes_values)
    };
    command.mut_args(values).mut_subcommands(with_negative_values)
}

fn fetch_failure(error: anyhow::Error) -> Failure {
    match error.downcast_ref::<fetch::FetchError>() {
        Some(fetch) if fetch.is_input() => Failure::Input(error),
        _ => Failure::Run(error),
    }
}

fn start_log(verbose: u8) {
    // What one of several processes warns of, all would.
    let level = match ranks::is_first() {
        true => ["info", "debug", "trace"][usize::from(verbose).min(2)],
        false => "error",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new(format!(
            "warn,asft={level},asft_data={level},asft_eval={level},asft_model={level},asft_train={level}"
        ))
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
}
