//! The binary as a user calls it.

mod bad_input;
mod commands;
mod resume;
mod support;
