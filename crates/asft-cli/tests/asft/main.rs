//! The binary as a user calls it.

mod analyze;
mod bad_input;
mod commands;
mod compare;
mod eval;
mod generate;
mod lora;
mod resume;
mod support;
