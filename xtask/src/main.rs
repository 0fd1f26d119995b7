//! Developer commands. `train`, `bench`, `fetch` and `run` start the program, `test`, `ci` and `invariants` check the tree.

mod ci;
mod cuda;
mod invariants;
mod launch;
mod peer;
mod torch;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  train [--backend B] [ARGS]   asft train, optimized; without --config the embedded quickstart
  bench [--backend B] ARGS     asft bench
  bench peer ARGS              asft and TRL in turn on the same pairs; `bench peer --help` lists ARGS
  fetch NAME                   asft fetch
  run [--backend B] ARGS       any command of asft; `cargo xtask run --help` lists them
  test --backend B             that backend against flex, and its operations against their definitions
  ci                           everything that CI checks, cheapest first
  invariants                   the rules of ARCHITECTURE.md alone

--backend B compiles that backend in and passes the choice on.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else {
        println!("{HELP}");
        return ExitCode::from(2);
    };
    let done = match command.as_str() {
        "bench" if rest.first().is_some_and(|what| what == "peer") => peer::run(&rest[1..]),
        "train" | "bench" | "fetch" => launch::asft(Some(command), rest),
        "run" => launch::asft(None, rest),
        "test" => launch::test(rest),
        "ci" if rest.is_empty() => ci::run(),
        "invariants" if rest.is_empty() => invariants::run().map(|()| ExitCode::SUCCESS),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        "ci" | "invariants" => Err(format!("{command} takes no arguments, got {}", rest.join(" "))),
        _ => Err(format!("{command:?} is unknown\nhint: cargo xtask help")),
    };
    done.unwrap_or_else(|message| {
        eprintln!("error: {message}");
        ExitCode::from(2)
    })
}
