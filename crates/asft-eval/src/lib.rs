//! Evaluation of aligned models.
//!
//! This crate knows no model: answers come through [`AnswerSource`], which a local model, a recorded file or a
//! remote endpoint can implement.

mod answer;

pub use answer::{Answer, AnswerSource, Sampling, StopReason, Turn};
