//! Evaluation of aligned models.
//!
//! This crate knows no model: answers come through [`AnswerSource`], which a local model, a recorded file or a
//! remote endpoint can implement. [`judge`] asks a model that grades, [`statistics`] has means with their
//! uncertainty, [`jsonl`] rows of files, [`files`] how files are read and written, [`page`] reports.

mod answer;
pub mod answer_file;
pub mod arena_hard;
pub mod calibrate;
mod error;
pub mod files;
pub mod import;
pub mod jsonl;
pub mod judge;
pub mod judge_behaviour;
mod judged;
pub mod mt_bench;
mod numpy;
pub mod page;
mod printable;
mod repeats;
pub mod schema;
mod sha256;
pub mod statistics;
mod template;
pub mod text;
mod yaml;

pub use answer::{Answer, AnswerSource, Query, Sampling, StopReason, derived_seed};
pub use error::EvalError;
pub use judged::{Judged, Meta, in_words};
pub use printable::printable;
