//! Loops over numbers in the host's memory, for every backend that computes there.
//!
//! Numbers lie as f32 or bf16 and are worked on in f32, spread over rayon's threads. Sums are made in an order that
//! depends on shapes alone, so results have the same bits whatever the number of threads.

pub mod adamw;
pub mod attention;
pub mod log_probs;
pub mod matrix;
mod number;
pub mod rms_norm;
pub mod rotary;
pub mod simd;
pub mod skinny;
pub mod swiglu;

pub use number::{Number, cast};

/// Elements that one task of an elementwise operation works on.
pub const TASK: usize = 1 << 14;
