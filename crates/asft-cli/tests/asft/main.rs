//! The binary as a user calls it.

mod analyze;
mod bad_input;
mod commands;
mod resume;
mod support;
