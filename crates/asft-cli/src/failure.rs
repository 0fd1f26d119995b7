//! How a command fails, and with which exit code.

use std::{fmt, process::ExitCode};

use asft_data::DataError;
use asft_eval::EvalError;
use asft_model::ModelError;
use asft_train::{CollectiveError, ConfigError, TrainError};

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
    /// With this exit code; another process says why.
    Told(u8),
}

impl Failure {
    /// An input error from words.
    pub fn input(message: impl std::fmt::Display) -> Self {
        Self::Input(anyhow::anyhow!("{message}"))
    }

    /// The exit code: 2 for input, 1 for a failed run, 130 for an interruption.
    pub fn code(&self) -> u8 {
        match self {
            Self::Input(_) => 2,
            Self::Run(_) => 1,
            Self::Interrupted(_) => 130,
            Self::Told(code) => *code,
        }
    }

    /// Prints the message and gives the exit code.
    pub fn report(self) -> ExitCode {
        match &self {
            Self::Input(_) | Self::Run(_) => note!("error: {self}"),
            Self::Interrupted(_) => note!("{self}"),
            Self::Told(_) => {}
        }
        ExitCode::from(self.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(error) | Self::Run(error) => formatter.write_str(&whole(error)),
            Self::Interrupted(message) => formatter.write_str(message),
            Self::Told(_) => Ok(()),
        }
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

/// Of the ranks before anything is started.
impl From<CollectiveError> for Failure {
    fn from(error: CollectiveError) -> Self {
        match error.is_common() {
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
