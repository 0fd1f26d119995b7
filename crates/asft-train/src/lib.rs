//! The training engine of asft.
//!
//! [`config`] is what a user types, [`Job`] everything read and checked before a run starts, [`Trainer`] a model
//! in training, [`run()`] the loop with its files. A step: sampler and packer give micro-batches, [`engine`] their
//! loss and gradients, [`gradients`] sums and norms them, [`optimizer`] updates the weights. [`evaluate`] scores
//! held-out pairs, [`Reference`] what a frozen model makes of them; [`run_directory`], [`checkpoint`] and `report.html` keep what was learnt. [`conformance`] compares backends. [`Collective`] is what several processes exchange. Generic over the
//! backend throughout.

pub mod checkpoint;
mod collective;
pub mod config;
pub mod conformance;
pub mod engine;
mod error;
pub mod evaluate;
pub mod gradients;
mod head_pass;
mod job;
pub mod memory;
mod metrics;
#[cfg(feature = "mpi")]
mod mpi;
pub mod optimizer;
mod phases;
pub mod quickstart;
mod reference;
mod reference_cache;
mod report;
mod resume;
mod run;
pub mod run_directory;
mod schedule;
mod shapes;
mod step;
mod tensorboard;
mod trainer;

pub use asft_core::Metrics;
pub use collective::{Alone, Collective, CollectiveError, Facts};
pub use config::{ConfigError, RunConfig};
pub use error::{StepError, TrainError};
pub use job::{
    BaseModel, Job, check_same_tokenizer, load_options, open_checkpoint, shape_of, warn_beyond_positions,
};
pub use metrics::{Kind, MetricsRow};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub use phases::Phases;
pub use reference::Reference;
pub use report::{RESULT_ROWS, ResultRow};
pub use resume::{FREE, ResumePoint, facts, first_difference, prepare};
pub use run::{Event, Outcome, Summary, run};
pub use schedule::Schedule;
pub use trainer::Trainer;
