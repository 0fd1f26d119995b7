//! What is wrong with an evaluation's input or went wrong in it.

use std::path::{Path, PathBuf};

/// Why an evaluation cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A row of a file is not what it should be.
    #[error("{}:{row}: {what}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// 1-based line.
        row: usize,
        /// What is wrong, by field, and what to do.
        what: String,
    },
    /// Files as a whole, or arguments, do not fit together.
    #[error("{0}")]
    Input(String),
    /// Something that is not the input's fault failed.
    #[error("{0}")]
    Run(String),
}

impl EvalError {
    /// For `map_err` on what touches `path`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// A row that is at fault.
    pub fn row(path: &Path, row: usize, what: impl Into<String>) -> Self {
        Self::Row { path: path.to_owned(), row, what: what.into() }
    }

    /// Whether the input is at fault, and not the run.
    #[must_use]
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Run(_))
    }
}
