//! `asft bench`: speed and memory, as one JSON object.

mod reference;
mod train;

use clap::Subcommand;

use crate::failure::Failure;

#[derive(Subcommand)]
pub enum Command {
    /// One epoch over the first pairs of a file, in file order.
    Train(train::Arguments),
    /// ASFT against DPO, whose reference model computes in every step or before the training, on the same pairs.
    Reference(reference::Arguments),
}

pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Train(arguments) => train::run(arguments),
        Command::Reference(arguments) => reference::run(&arguments),
    }
}
