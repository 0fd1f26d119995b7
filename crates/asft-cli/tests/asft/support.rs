//! What the tests of the command share: a scratch directory and the binary.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A tiny random checkpoint in the repository.
pub fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../asft-model/tests/goldens").join(name)
}

/// A scratch directory in which the command runs.
pub struct Scratch(pub tempfile::TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), contents).unwrap();
        self.path(name)
    }

    /// The command, not yet run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_asft"));
        command.args(arguments).current_dir(self.0.path()).env_remove("RUST_LOG");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs and fails the test with the whole output unless the exit code is 0.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}\n{}", output.status, stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Copies a tiny checkpoint to `name`, to be damaged.
    pub fn copy_of(&self, checkpoint: &str, name: &str) -> PathBuf {
        let target = self.path(name);
        std::fs::create_dir(&target).unwrap();
        for entry in std::fs::read_dir(tiny(checkpoint)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
        }
        target
    }

    /// A configuration that trains the tiny checkpoint on its own pairs, with `more` lines at its end.
    pub fn config(&self, more: &str) -> PathBuf {
        let model = tiny("llama3");
        let text = format!(
            "[model]\npath = {model:?}\n[data]\ntrain = [{:?}]\neval_pairs = 2\n\
             [objective.asft]\n[optimizer]\nlearning_rate = 1e-3\n\
             [train]\noutput = \"run\"\nepochs = 6\npairs_per_step = 2\nsegments = 1\neval_every_steps = 5\nsave_every_steps = 3\n{more}",
            model.join("pairs.jsonl")
        );
        self.write("config.toml", text)
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
