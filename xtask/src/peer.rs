//! `bench peer`: builds asft and the program that runs it in turn with TRL, and starts the latter.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use crate::launch;

/// Runs `peer ARGUMENTS`, everything optimized.
pub fn run(arguments: &[String]) -> Result<ExitCode, String> {
    // Both at once: built apart, what they share would be compiled twice, with other features.
    let mut build = launch::build("build", arguments)?;
    build.args(["--package", "benchmarks", "--bin", "asft", "--bin", "peer"]);
    let status = build.status().map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    let this = std::env::current_exe().map_err(|error| format!("the path of xtask is unknown: {error}"))?;
    let mut peer = Command::new(built_beside(&this)?);
    peer.args(arguments);
    // A backend's libraries must be found when asft runs, too.
    for (name, value) in build.get_envs() {
        match value {
            Some(value) => peer.env(name, value),
            None => peer.env_remove(name),
        };
    }
    launch::replace(peer)
}

/// The optimized `peer` of the target directory that xtask itself, in `PROFILE/xtask`, lies in.
fn built_beside(xtask: &Path) -> Result<PathBuf, String> {
    let target = xtask.parent().and_then(Path::parent);
    let target = target.ok_or_else(|| format!("{}: not in a target directory", xtask.display()))?;
    Ok(target.join("release").join(format!("peer{}", std::env::consts::EXE_SUFFIX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_looked_for_where_cargo_puts_it() {
        let name = format!("target/release/peer{}", std::env::consts::EXE_SUFFIX);
        assert_eq!(built_beside(Path::new("target/debug/xtask")), Ok(name.into()));
        assert!(built_beside(Path::new("xtask")).is_err());
    }
}
