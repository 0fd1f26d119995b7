//! Results go to standard output or, whole or not at all, to a named file; notes go to standard error.

use std::{
    borrow::Cow,
    ffi::OsString,
    fs::{File, TryLockError},
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

use asft_eval::{files, printable};

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
    match replaceable(path)? {
        false => Ok(()),
        true => Ok(files::check_writable(path)?),
    }
}

/// Writes a file under a temporary name and renames it, that which a link leads to in its place; a pipe or device is
/// written to as it is.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    match replaceable(path)? {
        true => files::write(path, bytes).map_err(|error| Failure::Run(error.into())),
        false => File::options()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|error| Failure::Run(anyhow::anyhow!("{}: {error}", path.display()))),
    }
}

/// An output that grows over a whole run, for this process alone until it is dropped; the system lets go of it even if the
/// process is killed.
pub struct Claim {
    /// A file beside the output, which itself is replaced on the way.
    path: PathBuf,
    _lock: File,
}

impl Claim {
    /// Fails if another process has claimed `path`.
    pub fn new(path: &Path) -> Result<Self, Failure> {
        // Whatever link it is called by.
        let target = files::followed(path)?;
        let mut name = OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(".lock");
        let beside = target.with_file_name(name);
        let unable = |error| Failure::input(format!("{}: cannot be locked: {error}", beside.display()));
        let file = File::options().write(true).create(true).truncate(false).open(&beside).map_err(unable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: beside, _lock: file }),
            Err(TryLockError::WouldBlock) => Err(Failure::input(format!(
                "{}: another process is writing it\nhint: wait for it, stop it, or name another file",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(unable(error)),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A file that stays is no lock.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether a name leads to an ordinary file or to nothing yet.
fn replaceable(path: &Path) -> Result<bool, Failure> {
    Ok(files::followed(path)?.symlink_metadata().map_or(true, |metadata| metadata.is_file()))
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
