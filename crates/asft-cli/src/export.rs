//! `asft export`.

use std::path::{Path, PathBuf};

use asft_data::Tokenizer;
use asft_eval::files;
use asft_model::{
    TrainBackend,
    checkpoint::{SavedModel, write_adapter, write_model},
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
    /// A Hugging Face directory, a GGUF file or a directory of an adapter, which is merged.
    #[arg(long, value_name = "M")]
    model: Option<PathBuf>,
    /// Of a run that trained an adapter, writes that alone, as PEFT reads it, and not the merged weights.
    #[arg(long)]
    adapter: bool,
    /// The directory to write; it must not exist or be empty.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let source = arguments.run.or(arguments.model).expect("clap asks for one of the two");
    let (model, tokenizer) = open_checkpoint(&source)?;
    if arguments.adapter && model.adapter().is_none() {
        return Err(Failure::input(format!(
            "{}: has no adapter\nhint: leave --adapter out to export the whole model",
            source.display()
        )));
    }
    let target = &arguments.output;
    let taken = match target.read_dir() {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => target.symlink_metadata().is_ok(),
    };
    if taken {
        return Err(Failure::input(format!(
            "{}: is there already\nhint: name a new directory",
            target.display()
        )));
    }
    let failed =
        |error: std::io::Error| Failure::input(format!("{}: cannot be written: {error}", target.display()));
    std::fs::create_dir_all(files::folder(target)).map_err(failed)?;
    let temporary =
        tempfile::Builder::new().prefix(".export-").tempdir_in(files::folder(target)).map_err(failed)?;
    let whole = temporary.path().join("model");
    std::fs::create_dir(&whole).map_err(failed)?;
    // Nothing is computed, so any backend does.
    let exporting = Exporting { model, adapter: arguments.adapter, tokenizer: &tokenizer, directory: &whole };
    backend::dispatch(Backend::Auto, exporting)?;
    if target.exists() {
        std::fs::remove_dir(target).map_err(failed)?;
    }
    std::fs::rename(&whole, target).map_err(failed)?;
    output::print(&format!("{}\n", target.display()))
}

struct Exporting<'a> {
    model: SavedModel,
    adapter: bool,
    tokenizer: &'a Tokenizer,
    directory: &'a Path,
}

impl Work for Exporting<'_> {
    type Output = ();

    fn run<A: TrainBackend>(mut self, device: &A::Device) -> Result<(), Failure> {
        let weight_type = self.model.weight_type()?;
        let model = self.model.load::<<A as AutodiffBackend>::InnerBackend>(weight_type, None, device)?;
        let (directory, files) = (self.directory, self.tokenizer.files());
        let written = match self.model.adapter().filter(|_| self.adapter) {
            Some(adapter) => write_adapter(directory, adapter.lora(), adapter.base(), &model, files),
            None => write_model(directory, self.model.config(), &model.merged(), files),
        };
        written.map_err(|error| Failure::Run(error.into()))
    }
}
