//! What CI runs: steps from the cheapest on, up to the first that fails.

use std::{
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use crate::{invariants, launch::cargo};

/// A step: its name, arguments of cargo, and environment variables. No arguments: the invariants.
type Step = (&'static str, Vec<&'static str>, &'static [(&'static str, &'static str)]);

/// Where MPI is installed: two processes against one, with a program that knows of others.
const RANKS: &str = "test --package asft-cli --features mpi --test asft --locked -- ranks::two_ranks";

/// Runs all steps; the exit code is 1 if one fails.
pub fn run() -> Result<ExitCode, String> {
    let mut times: Vec<(&str, Duration)> = vec![];
    let nextest = runs(&cargo(), &["nextest", "--version"]);
    let mpi = runs("mpirun", &["--version"]) && runs("mpicc", &["--version"]);
    for (name, arguments, environment) in steps(nextest, mpi) {
        println!("── {name}");
        let start = Instant::now();
        let failure = match arguments.is_empty() {
            true => invariants::run().err(),
            false => command(&arguments, environment).err(),
        };
        times.push((name, start.elapsed()));
        if let Some(failure) = failure {
            report(&times);
            eprintln!("error: step {name:?} failed: {failure}");
            return Ok(ExitCode::FAILURE);
        }
    }
    report(&times);
    Ok(ExitCode::SUCCESS)
}

fn steps(nextest: bool, mpi: bool) -> Vec<Step> {
    // Burn's autodiff is safe on one thread of a process only. nextest has one process for each test.
    let tests: Vec<_> = match nextest {
        true => "nextest run --workspace --locked --no-fail-fast".split(' ').collect(),
        false => "test --workspace --locked --no-fail-fast --lib --bins --tests -- --test-threads=1"
            .split(' ')
            .collect(),
    };
    let mut steps: Vec<Step> = vec![
        ("format", "fmt --all --check".split(' ').collect(), &[]),
        ("invariants", vec![], &[]),
        ("clippy", "clippy --workspace --all-targets --locked -- -D warnings".split(' ').collect(), &[]),
        ("tests", tests, &[]),
        // wgpu through Vulkan on the CPU takes many minutes, most of them in the shader compiler: `cargo xtask test` runs it.
        // Code that only calls the libraries is not worth optimizing.
        (
            "other backends",
            "test --package asft-train --features ndarray --test conformance --locked -- --test-threads=1"
                .split(' ')
                .collect(),
            &[("CARGO_PROFILE_DEV_OPT_LEVEL", "0")],
        ),
        (
            "all backends compile",
            "check --package asft-cli --features ndarray,wgpu,cuda --locked".split(' ').collect(),
            &[],
        ),
        ("doctests", "test --workspace --locked --doc -- --test-threads=1".split(' ').collect(), &[]),
        (
            "documentation",
            "doc --workspace --no-deps --locked".split(' ').collect(),
            &[("RUSTDOCFLAGS", "-D warnings")],
        ),
    ];
    if mpi {
        steps.push(("several ranks", RANKS.split(' ').collect(), &[]));
    }
    steps
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    let status = Command::new(cargo()).args(arguments).envs(environment.iter().copied()).status();
    let shown = format!("cargo {}", arguments.join(" "));
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown}: {status}")),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

fn report(times: &[(&str, Duration)]) {
    for (name, time) in times {
        println!("{name:15}{:8.1} s", time.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_test_keep_autodiff_to_one_thread() {
        for (nextest, first, last) in
            [(true, "nextest", "--no-fail-fast"), (false, "test", "--test-threads=1")]
        {
            let steps = steps(nextest, true);
            let (_, tests, _) = steps.iter().find(|(name, ..)| *name == "tests").unwrap();
            assert_eq!((tests[0], tests[tests.len() - 1]), (first, last));
        }
    }

    #[test]
    fn several_processes_are_tested_where_there_is_an_mpirun() {
        let has = |mpi| steps(true, mpi).iter().any(|(name, ..)| *name == "several ranks");
        assert_eq!((has(true), has(false)), (true, false));
    }

    #[test]
    fn a_failing_command_is_a_failure_that_names_it() {
        let failure = command(&["no-such-subcommand"], &[]).unwrap_err();
        assert!(failure.starts_with("cargo no-such-subcommand: "), "{failure}");
        assert_eq!(command(&["--version"], &[]), Ok(()));
    }
}
