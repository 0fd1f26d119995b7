//! How a command fails, and with which exit code.

use std::process::ExitCode;

use asft_data::DataError;
use asft_eval::EvalError;
use asft_model::ModelError;
use asft_train::{ConfigError, TrainError};

use crate::output::note;

/// A command that did not reach its end.
#[derive(Debug)]
pub enum Failure {
    /// Arguments, configuration or input are at fault; nothing was started.
    Input(anyhow::Error),
    /// The run itself failed.
    Run(anyhow::Error),
    /// Stopped by the user after a checkpoint was written.
    Interrupted(String),
}

impl Failure {
    /// An input error from words.
    pub fn input(message: impl std::fmt::Display) -> Self {
        Self::Input(anyhow::anyhow!("{message}"))
    }

    /// Prints the message and gives the exit code: 2 for input, 1 for a failed run, 130 for an interruption.
    pub fn report(self) -> ExitCode {
        let (message, code) = match self {
            Self::Input(error) => (format!("error: {}", whole(&error)), 2),
            Self::Run(error) => (format!("error: {}", whole(&error)), 1),
            Self::Interrupted(message) => (message, 130),
        };
        note!("{message}");
        ExitCode::from(code)
    }
}

/// The message with those of its causes that it does not already quote.
fn whole(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| match (cause.to_string(), text.is_empty()) {
        (cause, true) => cause,
        (cause, false) if text.contains(&cause) => text,
        (cause, false) => format!("{text}: {cause}"),
    })
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        match error.is_input() {
            true => Self::Input(error.into()),
            false => Self::Run(error.into()),
        }
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::Input(error.into())
    }
}

impl From<EvalError> for Failure {
    fn from(error: EvalError) -> Self {
        match error.is_input() {
            true => Self::Input(error.into()),
            false => Self::Run(error.into()),
        }
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self::Input(error.into())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Input(error.into())
    }
}
