//! `asft bench`: speed and memory, as one JSON object.

mod conformance;
mod generate;
mod gpu;
mod matmul;
mod reference;
mod train;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{backend::Backend, failure::Failure};

#[derive(Subcommand)]
pub enum Command {
    /// One epoch over the first pairs of a file, in file order.
    Train(train::Arguments),
    /// A backend against flex, from one operation to optimizer steps and generation; needs no files.
    Conformance(conformance::Arguments),
    /// Greedy generation from made-up prompts.
    Generate(generate::Arguments),
    /// The three products of each matrix of a model in training.
    Matmul(matmul::Arguments),
    /// Everything about training on a GPU in one file: conformance, products, steps of a Llama-3-8B-shaped model.
    Gpu(gpu::Arguments),
    /// ASFT against DPO, whose reference model computes in every step or before the training, on the same pairs.
    Reference(reference::Arguments),
}

pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Train(arguments) => train::run(arguments),
        Command::Conformance(arguments) => conformance::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Matmul(arguments) => matmul::run(&arguments),
        Command::Gpu(arguments) => gpu::run(&arguments),
        Command::Reference(arguments) => reference::run(&arguments),
    }
}

/// What is trained: the same of every benchmark.
#[derive(Args)]
struct Workload {
    /// A Hugging Face directory, a GGUF file, a run directory, or random weights as random:llama-3-8b.
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// File of preference pairs, or embedded:quickstart.
    #[arg(long, value_name = "F")]
    data: PathBuf,
    /// Pairs to train on, from the first; all of them if there are fewer.
    #[arg(long, default_value_t = 12)]
    pairs: usize,
    /// Pairs of one optimizer step.
    #[arg(long, default_value_t = 4)]
    pairs_per_step: usize,
    /// Sets one configuration key; may be repeated. To compare trainings, fix train.segments and
    /// train.micro_batch_tokens: plans differ by themselves.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Where to compute.
    #[arg(long, value_enum, default_value = "auto")]
    backend: Backend,
}
