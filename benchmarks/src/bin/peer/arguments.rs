//! What is measured, and whether it can be.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Parser, ValueEnum};

/// Modules that the peer scripts import.
const MODULES: &str = "torch, transformers, datasets, accelerate, trl";

#[derive(Parser, Debug)]
#[command(
    name = "peer",
    about = "asft and TRL in turn on the same pairs: time, memory and losses side by side"
)]
pub struct Arguments {
    /// A Python with trl.
    #[arg(long, value_name = "PY")]
    pub python: PathBuf,
    /// A Hugging Face directory; both programs start from its weights.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// File of preference pairs, of any layout that asft reads.
    #[arg(long, value_name = "F")]
    pub data: PathBuf,
    /// Pairs to train on, from the first that fits.
    #[arg(long, default_value_t = 12)]
    pub pairs: usize,
    /// Pairs of one optimizer step.
    #[arg(long, default_value_t = 4)]
    pub pairs_per_step: usize,
    /// Runs of each program, in turn.
    #[arg(long, default_value_t = 3)]
    pub repeat: usize,
    /// Most tokens of prompt and one answer.
    #[arg(long, default_value_t = 2048)]
    pub max_length: usize,
    /// Numbers that TRL computes with.
    #[arg(long, value_enum, default_value = "bf16")]
    pub dtype: Dtype,
    /// Where asft computes.
    #[arg(long, default_value = "auto")]
    pub backend: String,
    /// Sets one configuration key of asft; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub asft_set: Vec<String>,
    /// Whose time and memory are plotted against the size of a step; without a value, both.
    #[arg(long, value_enum, default_value = "asft", default_missing_value = "both", num_args = 0..=1)]
    pub sweep: Sweep,
    /// Measures how long both take to prepare the data set, instead of training.
    #[arg(long)]
    pub tokenize: bool,
    /// Where results are written.
    #[arg(long, value_name = "DIR", default_value = "runs/peer")]
    pub output: PathBuf,
    /// The program asft; the one beside this program if not named.
    #[arg(long, value_name = "FILE")]
    pub asft: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// f32 throughout.
    F32,
    /// bf16 autocast over f32 weights.
    Bf16,
    /// bf16 weights and optimizer states.
    Bf16full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sweep {
    /// asft alone.
    Asft,
    /// asft and TRL.
    Both,
    /// No plots.
    None,
}

impl Dtype {
    /// The argument of the peer script.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Bf16full => "bf16full",
        }
    }
}

impl Arguments {
    /// Fails where a run cannot succeed.
    pub fn check(&self) -> Result<()> {
        for (name, value) in
            [("--pairs", self.pairs), ("--pairs-per-step", self.pairs_per_step), ("--repeat", self.repeat)]
        {
            ensure!(value > 0, "{name} must be at least 1");
        }
        check_model(&self.model, !self.tokenize)?;
        ensure!(
            self.data.is_file(),
            "{}: no such file\nhint: --data names a file of pairs",
            self.data.display()
        );
        check_python(&self.python)?;
        if !self.tokenize {
            let asft = self.asft()?;
            ensure!(
                asft.is_file(),
                "{}: no such program\nhint: cargo build --release -p asft-cli, or name it with --asft",
                asft.display()
            );
        }
        std::fs::create_dir_all(&self.output)
            .with_context(|| format!("{}: cannot be created", self.output.display()))
    }

    /// The program to measure.
    pub fn asft(&self) -> Result<PathBuf> {
        match &self.asft {
            Some(path) => Ok(path.clone()),
            None => {
                let this = std::env::current_exe().context("the path of this program is unknown")?;
                Ok(this.with_file_name(format!("asft{}", std::env::consts::EXE_SUFFIX)))
            }
        }
    }
}

/// Fails unless `path` is what both programs can read: transformers reads no GGUF tokenizer as it is.
fn check_model(path: &Path, with_weights: bool) -> Result<()> {
    let hint = "hint: cargo xtask run export --model FILE.gguf --output DIR makes one of a GGUF file";
    ensure!(path.is_dir(), "{}: not a Hugging Face directory\n{hint}", path.display());
    for name in ["config.json", "tokenizer.json"] {
        ensure!(path.join(name).is_file(), "{}: {name} is missing\n{hint}", path.display());
    }
    let files = path.read_dir().with_context(|| format!("{}: cannot be read", path.display()))?;
    let is_weights = |file: std::io::Result<std::fs::DirEntry>| {
        file.is_ok_and(|file| file.path().extension() == Some("safetensors".as_ref()))
    };
    if with_weights && !files.into_iter().any(is_weights) {
        bail!("{}: there is no .safetensors file\n{hint}", path.display());
    }
    Ok(())
}

fn check_python(python: &Path) -> Result<()> {
    let hint = format!(
        "hint: {} -m pip install torch==2.9.0 transformers datasets accelerate trl",
        python.display()
    );
    let mut import = Command::new(python);
    import.args(["-P", "-c", &format!("import {MODULES}; import trl.experimental.orpo")]);
    let output = import.output().map_err(|error| {
        anyhow!("{}: cannot be started: {error}\nhint: --python names a Python with trl", python.display())
    })?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        let reason = error.trim_end().lines().last().unwrap_or("it says nothing").to_owned();
        bail!("{}: cannot run TRL: {reason}\n{hint}", python.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_measured_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path, weights| check_model(path, weights).unwrap_err().to_string();
        assert!(message(&folder.path().join("x.gguf"), true).contains("not a Hugging Face directory"));
        assert!(message(folder.path(), true).contains("config.json is missing"));
        for name in ["config.json", "tokenizer.json"] {
            std::fs::write(folder.path().join(name), "{}").unwrap();
        }
        assert!(message(folder.path(), true).contains("no .safetensors file"));
        assert!(check_model(folder.path(), false).is_ok());
        let absent = check_python(&folder.path().join("python")).unwrap_err().to_string();
        assert!(absent.contains("cannot be started: ") && absent.contains("\nhint: --python"), "{absent}");
    }

    #[test]
    fn a_bare_sweep_means_both() {
        let parse = |more: &[&str]| {
            let first = ["peer", "--python", "p", "--model", "m", "--data", "d"];
            Arguments::try_parse_from(first.iter().chain(more)).unwrap()
        };
        for (more, sweep) in [
            (&[][..], Sweep::Asft),
            (&["--sweep"], Sweep::Both),
            (&["--sweep", "--repeat", "1"], Sweep::Both),
            (&["--sweep=none"], Sweep::None),
        ] {
            assert_eq!(parse(more).sweep, sweep, "{more:?}");
        }
        let sets = parse(&["--asft-set", "a=1", "--asft-set", "b=2"]).asft_set;
        assert_eq!(sets, ["a=1", "b=2"]);
    }
}
