//! Whole files and folders: read as text, replaced at once, checked before work begins.

use std::{
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use crate::EvalError;

/// A file's text without the mark that may begin it.
///
/// # Errors
/// If it cannot be read or is not UTF-8; the line is named.
pub fn read_text(path: &Path) -> Result<String, EvalError> {
    let bytes = std::fs::read(path).map_err(EvalError::io(path))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let row = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        EvalError::row(path, row, "is no UTF-8\nhint: save the file as UTF-8")
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// What a name leads to through symbolic links, which need not be there yet. Links of the system itself (`/dev/stdout`)
/// are left as they are.
///
/// # Errors
/// If a link leads to itself or cannot be read.
pub fn followed(path: &Path) -> Result<PathBuf, EvalError> {
    const MOST_LINKS: usize = 40;
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        let is_link = target.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        if !is_link || ["/dev", "/proc"].iter().any(|system| target.starts_with(system)) {
            return Ok(target);
        }
        let next = std::fs::read_link(&target).map_err(EvalError::io(path))?;
        target = target.parent().unwrap_or(Path::new("")).join(next);
    }
    Err(EvalError::Input(format!("{}: is a link that leads to itself\nhint: name a file", path.display())))
}

/// The folder that holds a file.
#[must_use]
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Fails if the folder that is to hold a file is not there.
///
/// # Errors
/// If so, by name.
pub fn check_folder_of(path: &Path) -> Result<(), EvalError> {
    let folder = folder(path);
    let (shown, named) = (path.display(), folder.display());
    match folder.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(EvalError::Input(format!("{shown}: {named} is a file\nhint: name a file in a folder"))),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(EvalError::Input(format!(
            "{shown}: the folder {named} does not exist\nhint: make it, or name a file elsewhere"
        ))),
        Err(error) => Err(EvalError::io(folder)(error)),
    }
}

/// Fails if a name that is to be a folder, or one that is to hold it, is a file's.
///
/// # Errors
/// If so, by name.
pub fn check_folder(path: &Path) -> Result<(), EvalError> {
    let first = path.ancestors().find(|folder| folder.exists());
    match first.filter(|folder| !folder.is_dir()) {
        None => Ok(()),
        Some(file) => Err(EvalError::Input(format!("{}: is a file; name a directory", file.display()))),
    }
}

/// Makes a folder, and those that hold it, if it is not there.
///
/// # Errors
/// If it cannot be made; a file of its name is told as such.
pub fn make_folder(path: &Path) -> Result<(), EvalError> {
    check_folder(path)?;
    std::fs::create_dir_all(path).map_err(EvalError::io(path))
}

/// Writes a file under a temporary name beside it, syncs it and renames it; a link stays and its target is replaced.
///
/// # Errors
/// If its folder is not there or cannot be written to.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), EvalError> {
    let target = followed(path)?;
    check_folder_of(&target)?;
    let write = || {
        let mut file = tempfile::Builder::new().permissions_of_new_files().tempfile_in(folder(&target))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&target)?;
        sync_folder(folder(&target))
    };
    write().map_err(EvalError::io(path))
}

/// Makes the names of new files last.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Fails if [`write()`] could not write a file.
///
/// # Errors
/// If so, with the reason.
pub fn check_writable(path: &Path) -> Result<(), EvalError> {
    let target = followed(path)?;
    check_folder_of(&target)?;
    tempfile::NamedTempFile::new_in(folder(&target)).map(drop).map_err(|error| {
        // Its own words name a file that the user does not know.
        EvalError::Input(format!("{}: cannot be written: {}", path.display(), error.kind()))
    })
}

trait PermissionsOfNewFiles {
    fn permissions_of_new_files(&mut self) -> &mut Self;
}

impl PermissionsOfNewFiles for tempfile::Builder<'_, '_> {
    #[cfg(unix)]
    fn permissions_of_new_files(&mut self) -> &mut Self {
        self.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
    }
    #[cfg(not(unix))]
    fn permissions_of_new_files(&mut self) -> &mut Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<T: std::fmt::Debug>(result: Result<T, EvalError>) -> String {
        let error = result.unwrap_err();
        assert!(error.is_input(), "{error}");
        error.to_string()
    }

    #[test]
    fn folders_are_told_from_files_and_from_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        write(&at("file"), b"x").unwrap();
        for path in ["new/x.jsonl", "new/other/x.jsonl"] {
            for error in [told(write(&at(path), b"x")), told(check_writable(&at(path)))] {
                let folder = at(path).parent().unwrap().display().to_string();
                assert!(error.contains(&format!("the folder {folder} does not exist\nhint: ")), "{error}");
            }
        }
        let file = at("file").display().to_string();
        assert!(told(check_writable(&at("file/x.jsonl"))).contains(&format!("{file} is a file")));
        for path in ["file", "file/under/it"] {
            assert_eq!(told(make_folder(&at(path))), format!("{file}: is a file; name a directory"));
        }
        make_folder(&at("new/other")).unwrap();
        check_writable(&at("new/other/x.jsonl")).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn links_are_followed() {
        use std::os::unix::fs::symlink;
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        std::fs::create_dir(at("far")).unwrap();
        symlink("far/target", at("link")).unwrap();
        symlink("link", at("link to it")).unwrap();
        // The target is not there at first.
        for text in ["one", "two"] {
            check_writable(&at("link to it")).unwrap();
            write(&at("link to it"), text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(at("far/target")).unwrap(), text);
            assert!(at("link").is_symlink() && at("link to it").is_symlink());
        }
        symlink("no folder/target", at("astray")).unwrap();
        assert!(told(check_writable(&at("astray"))).contains("no folder does not exist"));
        symlink("circle", at("circle")).unwrap();
        for error in [told(check_writable(&at("circle"))), told(write(&at("circle"), b""))] {
            assert!(error.contains("circle: is a link that leads to itself\nhint: "), "{error}");
        }
        let system = Path::new("/dev/stdout");
        assert_eq!(followed(system).unwrap(), system);
    }
}
