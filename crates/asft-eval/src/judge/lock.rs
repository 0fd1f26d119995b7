//! One writer a directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::Path,
};

use crate::EvalError;

const FILE: &str = "lock";

/// Locks a directory for as long as the file is open, or says which process has it. The system unlocks it even if the
/// process is killed.
///
/// # Errors
/// If another process has it, or the file cannot be written.
pub(super) fn lock(directory: &Path) -> Result<File, EvalError> {
    let path = directory.join(FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(EvalError::io(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Where the lock also bars reading, the holder stays unnamed.
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                id => format!("process {id}"),
            };
            return Err(EvalError::Input(format!(
                "{}: {holder} is writing this cache\nhint: wait for it, stop it, or take another --cache",
                directory.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(EvalError::io(path)(error)),
    }
    let mut sign = || {
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())
    };
    sign().map_err(EvalError::io(&path))?;
    Ok(file)
}
