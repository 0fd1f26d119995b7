//! Results go to standard output or, whole or not at all, to a named file.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// Fails if `path` could not be written later, before any work is done.
pub fn check_writable(path: &Path) -> Result<(), Failure> {
    tempfile::NamedTempFile::new_in(parent(path)).map(drop).map_err(|error| cannot_write(path, error))
}

/// Writes a file under a temporary name and renames it.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    asft_train::run_directory::write_atomically(path, bytes).map_err(|error| Failure::Run(error.into()))
}

/// Writes to `path`, or to standard output without one.
pub fn write(path: Option<&PathBuf>, text: &str) -> Result<(), Failure> {
    match path {
        Some(path) => write_file(path, text.as_bytes()),
        None => print(text),
    }
}

/// Prints to standard output; a reader that has gone away is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Run(error.into())),
        _ => Ok(()),
    }
}

/// The directory that holds `path`.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn cannot_write(path: &Path, error: std::io::Error) -> Failure {
    Failure::input(format!("{}: cannot be written: {error}", path.display()))
}
