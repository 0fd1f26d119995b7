//! The binary as a user calls it.

mod analyze;
mod bad_input;
mod commands;
mod compare;
mod eval;
mod eval_outputs;
mod generate;
mod lora;
#[cfg(all(target_os = "linux", feature = "mpi"))]
mod ranks;
mod resume;
mod support;
