//! Evaluation of aligned models.
//!
//! This crate knows no model: answers come through [`AnswerSource`], which a local model, a recorded file or a
//! remote endpoint can implement. [`statistics`] has means with their uncertainty, [`page`] reports.

mod answer;
pub mod page;
pub mod statistics;

pub use answer::{Answer, AnswerSource, Sampling, StopReason, Turn};
