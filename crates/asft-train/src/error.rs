//! Why a run did not start, or did not end.

use std::path::PathBuf;

use asft_core::ObjectiveError;
use asft_data::{DataError, Origin};
use asft_model::{ModelError, WeightType};

use crate::{collective::CollectiveError, config::ConfigError};

/// An error of a training run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Several processes cannot go on together.
    #[error("{0}")]
    Collective(#[from] CollectiveError),
    /// No model has this shape's name.
    #[error("model.path: {path:?} names no shape\nhint: one of {known}, or a model on disk")]
    Shape {
        /// As it was typed.
        path: String,
        /// What there is.
        known: String,
    },
    /// The backend does not train in the type that was asked for.
    #[error("model.dtype: this backend does not train in {}\nhint: --backend tch does; on any other leave model.dtype at \"f32\"", .0.name())]
    WeightType(WeightType),
    /// The run directory cannot be used.
    #[error("{}: {what}", path.display())]
    RunDirectory {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and a hint.
        what: String,
    },
    /// `--resume` with settings that the run was not started with.
    #[error("{}: {key} was {was} when the run started and is {now} now\nhint: a run is resumed with its own settings; start another output directory for new ones", path.display())]
    Changed {
        /// The run directory.
        path: PathBuf,
        /// Key path of the first difference.
        key: String,
        /// Value in the run's `config.toml`.
        was: String,
        /// Value given now.
        now: String,
    },
    /// A file of the run could not be written or read back.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A checkpoint could not be written.
    #[error("{}: the checkpoint could not be written: {source}\nhint: free some space; --resume goes on from the one before", path.display())]
    Save {
        /// Where it was to be.
        path: PathBuf,
        /// Why.
        source: Box<ModelError>,
    },
    /// Every checkpoint of the run is damaged.
    #[error("{}: no whole checkpoint is left: {what}", path.display())]
    NoWholeCheckpoint {
        /// The run directory.
        path: PathBuf,
        /// What is wrong with the newest.
        what: String,
    },
    /// The objective needs rejected answers and the data has rows without.
    #[error(
        "{origin}: the row has no rejected answer, which objective {objective} needs\nhint: --objective sft trains on chosen answers alone"
    )]
    MissingRejected {
        /// The first such row.
        origin: Origin,
        /// Name of the objective.
        objective: &'static str,
    },
    /// An adapter cannot be trained or used.
    #[error("{}: {what}", path.display())]
    Adapter {
        /// The model or adapter.
        path: PathBuf,
        /// Why, and a hint.
        what: String,
    },
    /// The reference model has another tokenizer than the model that is trained.
    #[error("{}: its tokenizer is not that of the model that it is compared with, so the two cannot score the same tokens\nhint: name a reference model of the same family", path.display())]
    ReferenceTokenizer {
        /// The reference model.
        path: PathBuf,
    },
    /// A file of reference log-probs that cannot be trusted.
    #[error("{}: {what}\nhint: remove the file to have its numbers computed again, or name another directory in reference.cache", path.display())]
    ReferenceCache {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The reference model gave no finite log-prob.
    #[error(
        "{origin}: its log-prob under the reference model is not finite\nhint: look at the pair with asft data inspect, and at the weights of reference.path"
    )]
    ReferenceScore {
        /// The pair.
        origin: Origin,
    },
    /// A loss or gradient that is not finite.
    #[error(
        "{source}\nhint: {}; lower optimizer.learning_rate, or look at the pair with asft data inspect",
        kept(checkpoint)
    )]
    Diverged {
        /// Where.
        source: StepError,
        /// The newest checkpoint.
        checkpoint: Option<PathBuf>,
    },
}

/// A step or evaluation that gave no finite number, or that not every rank made.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Another rank is at fault, or gone.
    #[error("{0}")]
    Collective(#[from] CollectiveError),
    /// A pair has no loss.
    #[error("step {step}: pair {pair} ({origin}): {source}")]
    Loss {
        /// The step, counted from 1; an evaluation has the number of steps before it.
        step: usize,
        /// Index of the pair in the training or held-out set.
        pair: usize,
        /// Where it was read.
        origin: Origin,
        /// The objective's complaint.
        source: ObjectiveError,
    },
    /// The gradient is not finite.
    #[error("step {step}: the gradient norm is {norm} after pairs {pairs:?}")]
    Gradient {
        /// The step, counted from 1.
        step: usize,
        /// The norm.
        norm: f64,
        /// Indices of the step's pairs in the training set.
        pairs: Vec<usize>,
    },
    /// An update made a weight that is not finite.
    #[error("step {step}: weight {tensor} is not finite after the update of pairs {pairs:?}")]
    Weights {
        /// The step, counted from 1.
        step: usize,
        /// The first such tensor.
        tensor: String,
        /// Indices of the step's pairs in the training set.
        pairs: Vec<usize>,
    },
}

fn kept(checkpoint: &Option<PathBuf>) -> String {
    match checkpoint {
        Some(path) => format!("the last good checkpoint is {}", path.display()),
        None => "no checkpoint had been written yet".to_owned(),
    }
}

impl TrainError {
    /// Whether the input is at fault and nothing was started.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Collective(error) => matches!(error, CollectiveError::Different { .. }),
            Self::Io { .. } | Self::Save { .. } | Self::Diverged { .. } | Self::ReferenceScore { .. } => {
                false
            }
            _ => true,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
