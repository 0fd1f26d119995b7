//! Starts `asft` with the backend that was asked for compiled in.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use crate::{cuda, torch};

/// Runs `asft [COMMAND] ARGUMENTS` through cargo, optimized, in the current directory.
pub fn asft(command: Option<&str>, arguments: &[String]) -> Result<ExitCode, String> {
    let mut cargo = build("run", arguments)?;
    cargo.arg("--").args(command).args(arguments);
    replace(cargo)
}

/// A cargo command, `run` or `build`, over an optimized `asft` with the backend that `arguments` ask for.
pub fn build(command: &str, arguments: &[String]) -> Result<Command, String> {
    let mut cargo = Command::new(cargo());
    cargo.args([command, "--release", "--package", "asft-cli"]);
    add_backend(&mut cargo, arguments)?;
    Ok(cargo)
}

/// Tests one backend against flex, and its operations against their definitions.
pub fn test(arguments: &[String]) -> Result<ExitCode, String> {
    if !matches!(arguments, [_, _]) && !matches!(arguments, [one] if one.starts_with("--backend=")) {
        return Err(format!("test takes --backend B alone, got {:?}", arguments.join(" ")));
    }
    let mut cargo = Command::new(cargo());
    cargo.args(["test", "--package", "asft-model", "--package", "asft-train"]);
    if !add_backend(&mut cargo, arguments)? {
        return Err(
            "--backend B is needed\nhint: cargo xtask ci tests everything that needs no other backend".into(),
        );
    }
    // Burn's autodiff is safe on one thread of a process only. Tuning kernels takes longer than these tests.
    cargo
        .args(["--", "--test-threads=1"])
        .env("CUBECL_AUTOTUNE_LEVEL", "0")
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
    replace(cargo)
}

/// Adds the backend that `arguments` ask for to a command, with what building it needs; false if they ask for none.
fn add_backend(cargo: &mut Command, arguments: &[String]) -> Result<bool, String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/asft-cli/Cargo.toml");
    let text =
        std::fs::read_to_string(&manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
    let Some(feature) = feature(arguments, &features(&text))? else { return Ok(false) };
    match feature.as_str() {
        "tch" => torch::prepare(cargo)?,
        "cuda" => cuda::prepare(cargo),
        _ => {}
    }
    cargo.args(["--features", &feature]);
    Ok(true)
}

/// The cargo that started this program.
pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or("cargo".into())
}

/// Becomes `command`: an interrupt then reaches it alone, and it can finish what it has to.
#[cfg(unix)]
pub fn replace(mut command: Command) -> Result<ExitCode, String> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(format!("{} cannot be started: {error}", command.get_program().display()))
}

#[cfg(not(unix))]
pub fn replace(mut command: Command) -> Result<ExitCode, String> {
    let started = command.status();
    let status =
        started.map_err(|error| format!("{} cannot be started: {error}", command.get_program().display()))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// The feature that `--backend` needs: one of `known`, or none where the program is to choose.
fn feature(arguments: &[String], known: &[String]) -> Result<Option<String>, String> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let backend = match argument.strip_prefix("--backend") {
            Some("") => rest.next().ok_or("--backend needs a name")?,
            Some(name) if name.starts_with('=') => &name[1..],
            _ => continue,
        };
        return match backend {
            "auto" => Ok(None),
            name if known.iter().any(|known| known == name) => Ok(Some(name.to_owned())),
            _ => Err(format!("backend {backend:?} is unknown\nhint: one of {}, or auto", known.join(", "))),
        };
    }
    Ok(None)
}

/// Backends in the `[features]` table of a manifest: all names but `default` and `mpi`.
fn features(manifest: &str) -> Vec<String> {
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[features]").skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned()))
        .filter(|name| !["default", "mpi"].contains(&name.as_str()) && !name.starts_with('#'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_looked_up_among_the_features() {
        let known = features(
            "[package]\nname = 'x'\n[features]\ndefault = ['flex']\n# gone = []\nflex = []\ncuda = []\nmpi = []\n[lints]\na = 1",
        );
        assert_eq!(known, ["flex", "cuda"]);
        for (arguments, wanted) in [
            (vec![], Ok(None)),
            (vec!["--config", "x"], Ok(None)),
            (vec!["--config", "x", "--backend", "cuda"], Ok(Some("cuda"))),
            (vec!["--backend=flex", "--resume"], Ok(Some("flex"))),
            (vec!["--backend=auto"], Ok(None)),
            (vec!["--backend", "tpu"], Err("one of flex, cuda, or auto")),
            (vec!["--backend"], Err("needs a name")),
        ] {
            let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
            match (feature(&arguments, &known), wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found.as_deref(), wanted, "{arguments:?}"),
                (Err(found), Err(wanted)) => assert!(found.contains(wanted), "{found}"),
                (found, _) => panic!("{arguments:?}: {found:?}"),
            }
        }
    }
}
