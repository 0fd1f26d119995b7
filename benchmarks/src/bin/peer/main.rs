//! Measures asft against TRL: both in turn on the same pairs from the same weights, or both preparing a data
//! set. `cargo xtask bench peer` builds everything and starts it.

mod arguments;
mod compare;
mod pairs;
mod plot;
mod program;
mod statistics;
mod sweep;
mod tokenize;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = arguments.check() {
        eprintln!("error: {error:#}");
        return ExitCode::from(2);
    }
    let done = match arguments.tokenize {
        true => tokenize::run(&arguments),
        false => compare::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
