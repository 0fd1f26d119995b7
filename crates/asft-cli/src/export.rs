//! `asft export`.

use std::path::{Path, PathBuf};

use asft_data::Tokenizer;
use asft_model::{
    Llama, TrainBackend,
    checkpoint::{Checkpoint, write_model},
};
use asft_train::open_checkpoint;
use burn::tensor::backend::AutodiffBackend;
use clap::Args;

use crate::{
    backend::{self, Backend, Work},
    failure::Failure,
    output,
};

#[derive(Args)]
pub struct Arguments {
    /// A run directory, whose newest checkpoint is taken.
    #[arg(long, value_name = "DIR", required_unless_present = "model", conflicts_with = "model")]
    run: Option<PathBuf>,
    /// A Hugging Face directory or a GGUF file.
    #[arg(long, value_name = "M")]
    model: Option<PathBuf>,
    /// The directory to write; it must not exist or be empty.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let source = arguments.run.or(arguments.model).expect("clap asks for one of the two");
    let (checkpoint, tokenizer) = open_checkpoint(&source)?;
    let target = &arguments.output;
    let taken = match target.read_dir() {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    if taken {
        return Err(Failure::input(format!(
            "{}: is there already\nhint: name a new directory",
            target.display()
        )));
    }
    let failed =
        |error: std::io::Error| Failure::input(format!("{}: cannot be written: {error}", target.display()));
    std::fs::create_dir_all(output::parent(target)).map_err(failed)?;
    let temporary =
        tempfile::Builder::new().prefix(".export-").tempdir_in(output::parent(target)).map_err(failed)?;
    let whole = temporary.path().join("model");
    std::fs::create_dir(&whole).map_err(failed)?;
    // Nothing is computed, so any backend does.
    backend::dispatch(Backend::Auto, Exporting { checkpoint, tokenizer: &tokenizer, directory: &whole })?;
    if target.exists() {
        std::fs::remove_dir(target).map_err(failed)?;
    }
    std::fs::rename(&whole, target).map_err(failed)?;
    output::print(&format!("{}\n", target.display()))
}

struct Exporting<'a> {
    checkpoint: Checkpoint,
    tokenizer: &'a Tokenizer,
    directory: &'a Path,
}

impl Work for Exporting<'_> {
    type Output = ();

    fn run<A: TrainBackend>(mut self, device: &A::Device) -> Result<(), Failure> {
        let config = self.checkpoint.config().clone();
        let weight_type = self.checkpoint.weight_type()?;
        let model = Llama::<<A as AutodiffBackend>::InnerBackend>::load_as(
            weight_type,
            &config,
            self.checkpoint.weights(),
            device,
        )?;
        Ok(write_model(self.directory, &config, &model, self.tokenizer.files())?)
    }
}
