//! Results go to standard output or, whole or not at all, to a named file; notes go to standard error.

use std::{
    borrow::Cow,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

use asft_eval::printable;

use crate::failure::Failure;

/// A line on standard error, without control characters. Nobody may be reading it, which is no reason to stop.
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "{}", asft_eval::printable(&format!($($text)*)));
    }};
}
pub(crate) use note;

/// Fails if `path` could not be written later, or is one of the `inputs`, before any work is done.
pub fn check_writable(path: &Path, inputs: &[PathBuf]) -> Result<(), Failure> {
    let shown = path.display();
    if path.is_dir() {
        return Err(Failure::input(format!("{shown}: is a directory\nhint: name a file")));
    }
    let real = path.canonicalize().ok();
    if real.is_some() && inputs.iter().any(|input| input.canonicalize().ok() == real) {
        return Err(Failure::input(format!("{shown}: is the input itself\nhint: name another file")));
    }
    match replaceable(path) {
        false => Ok(()),
        true => tempfile::NamedTempFile::new_in(parent(path))
            .map(drop)
            .map_err(|error| Failure::input(format!("{shown}: cannot be written: {error}"))),
    }
}

/// Writes a file under a temporary name and renames it; a pipe or device is written to as it is.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    match replaceable(path) {
        true => asft_train::run_directory::write_atomically(path, bytes)
            .map_err(|error| Failure::Run(error.into())),
        false => std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|error| Failure::Run(anyhow::anyhow!("{}: {error}", path.display()))),
    }
}

/// Whether a name stands for an ordinary file or for nothing yet.
fn replaceable(path: &Path) -> bool {
    path.symlink_metadata().map_or(true, |metadata| metadata.is_file())
}

/// Writes to `path`, or to standard output without one.
pub fn write(path: Option<&PathBuf>, text: &str) -> Result<(), Failure> {
    match path {
        Some(path) => write_file(path, text.as_bytes()),
        None => print(text),
    }
}

/// Prints to standard output, to a terminal without control characters; a reader that has gone away is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let shown = if out.is_terminal() { printable(text) } else { Cow::Borrowed(text) };
    match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
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
