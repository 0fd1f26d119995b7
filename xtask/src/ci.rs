//! What CI runs: steps from the cheapest on, up to the first that fails.

use std::{
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use crate::{invariants, launch::cargo};

/// A step: its name, arguments of cargo, and environment variables. No arguments: the invariants.
type Step = (&'static str, Vec<String>, &'static [(&'static str, &'static str)]);

/// wgpu tries out kernels otherwise, for longer than the tests take.
const UNTUNED: &[(&str, &str)] = &[("CUBECL_AUTOTUNE_LEVEL", "0")];

/// Runs all steps; the exit code is 1 if one fails.
pub fn run() -> Result<ExitCode, String> {
    let mut times: Vec<(&str, Duration)> = vec![];
    let nextest = runs(&cargo(), &["nextest", "--version"]);
    let found = Found {
        mpi: runs("mpirun", &["--version"]) && runs("mpicc", &["--version"]),
        vulkan: ["/usr/share", "/etc", "/usr/local/share"].iter().any(|directory| has_driver(directory)),
    };
    for (name, arguments, environment) in steps(nextest, found) {
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

/// What this machine has beside a Rust toolchain.
#[derive(Clone, Copy)]
struct Found {
    mpi: bool,
    vulkan: bool,
}

/// Whether drivers of Vulkan are installed under a directory.
fn has_driver(directory: &str) -> bool {
    std::fs::read_dir(Path::new(directory).join("vulkan/icd.d")).is_ok_and(|mut files| files.next().is_some())
}

/// Steps that compile take one of two sets of features, so that dependencies are compiled and checked once: what the
/// tests need, and that with the backends that are only checked.
fn steps(nextest: bool, found: Found) -> Vec<Step> {
    let mut tested = "asft-train/ndarray".to_owned();
    for (_, feature) in
        [(found.mpi, "asft-cli/mpi"), (found.vulkan, "asft-train/wgpu")].iter().filter(|one| one.0)
    {
        tested = format!("{tested},{feature}");
    }
    let checked = format!("asft-cli/ndarray,asft-cli/wgpu,asft-cli/cuda,{tested}");
    let on = |command: &str, features: &str, more: &str| -> Vec<String> {
        let words = [command, "--workspace --locked --features", features, more];
        words.iter().flat_map(|words| words.split_whitespace()).map(str::to_owned).collect()
    };
    // Burn's autodiff is safe on one thread of a process only. nextest has one process for each test.
    let tests = match nextest {
        true => on("nextest run", &tested, "--no-fail-fast"),
        false => on("test", &tested, "--no-fail-fast --lib --bins --tests -- --test-threads=1"),
    };
    vec![
        ("format", ["fmt", "--all", "--check"].map(str::to_owned).to_vec(), &[]),
        ("invariants", vec![], &[]),
        ("clippy", on("clippy", &checked, "--all-targets -- -D warnings"), &[]),
        ("documentation", on("doc", &checked, "--no-deps"), &[("RUSTDOCFLAGS", "-D warnings")]),
        ("tests", tests, UNTUNED),
        ("doctests", on("test", &tested, "--doc -- --test-threads=1"), &[]),
    ]
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn command(arguments: &[String], environment: &[(&str, &str)]) -> Result<(), String> {
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
            let steps = steps(nextest, Found { mpi: true, vulkan: true });
            let (_, tests, _) = steps.iter().find(|(name, ..)| *name == "tests").unwrap();
            assert_eq!((tests[0].as_str(), tests[tests.len() - 1].as_str()), (first, last));
        }
    }

    #[test]
    fn several_processes_and_wgpu_are_tested_where_the_machine_can() {
        let features = |mpi, vulkan| {
            let steps = steps(true, Found { mpi, vulkan });
            let (_, tests, _) = steps.iter().find(|(name, ..)| *name == "tests").unwrap();
            tests[tests.iter().position(|argument| argument == "--features").unwrap() + 1].clone()
        };
        assert_eq!(features(false, false), "asft-train/ndarray");
        assert_eq!(features(true, false), "asft-train/ndarray,asft-cli/mpi");
        assert_eq!(features(false, true), "asft-train/ndarray,asft-train/wgpu");
        assert_eq!(features(true, true), "asft-train/ndarray,asft-cli/mpi,asft-train/wgpu");
    }

    #[test]
    fn a_failing_command_is_a_failure_that_names_it() {
        let failure = command(&["no-such-subcommand".into()], &[]).unwrap_err();
        assert!(failure.starts_with("cargo no-such-subcommand: "), "{failure}");
        assert_eq!(command(&["--version".into()], &[]), Ok(()));
    }
}
