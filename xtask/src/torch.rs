//! LibTorch for the backend `tch`: that of a Python with PyTorch, which is installed where there is none.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The PyTorch that burn-tch 0.21 is made for.
const VERSION: &str = "2.9.0";

/// Names a Python whose PyTorch is to be used.
const PYTHON: &str = "ASFT_PYTHON";

/// What the build scripts run; they ask for the headers too, which needs more than torch alone.
const DETAILS: &str = "import os, torch, torch.utils.cpp_extension
print(torch.__version__.split('+')[0])
print(os.path.join(os.path.dirname(torch.__file__), 'lib'))";

/// Where the build scripts look for the interpreter, by name.
const INTERPRETER: &str = if cfg!(windows) { "python.exe" } else { "python3" };

/// Where a system looks for libraries of a program that starts.
const LIBRARY_PATH: &str = match () {
    () if cfg!(target_os = "macos") => "DYLD_LIBRARY_PATH",
    () if cfg!(windows) => "PATH",
    () => "LD_LIBRARY_PATH",
};

/// Sets what building with LibTorch and running with it need.
pub fn prepare(command: &mut Command) -> Result<(), String> {
    let (programs, libraries) = match env::var_os(PYTHON) {
        Some(python) => named(Path::new(&python))?,
        None => own(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/torch"))?,
    };
    command.env("LIBTORCH_USE_PYTORCH", "1").env_remove("VIRTUAL_ENV");
    // Tests run loops of ours between LibTorch's operations, whose threads must not spin meanwhile.
    if env::var_os("OMP_WAIT_POLICY").is_none() {
        command.env("OMP_WAIT_POLICY", "passive");
    }
    for (variable, folder) in [("PATH", programs), (LIBRARY_PATH, libraries)] {
        let set = command.get_envs().find(|(name, _)| *name == variable).and_then(|(_, value)| value);
        let rest = set.map(OsString::from).or_else(|| env::var_os(variable));
        command.env(variable, before(&folder, rest.as_deref())?);
    }
    Ok(())
}

type Folders = (PathBuf, PathBuf);

/// The folders of a Python that the user names.
fn named(python: &Path) -> Result<Folders, String> {
    let programs = python.parent().filter(|_| python.is_file()).ok_or_else(|| {
        format!(
            "{PYTHON}={}: no such file\nhint: name the interpreter itself, such as venv/bin/python",
            python.display()
        )
    })?;
    let programs = programs.canonicalize().map_err(|error| format!("{}: {error}", programs.display()))?;
    let libraries = libraries(&programs.join(INTERPRETER)).map_err(|what| {
        format!(
            "{PYTHON}={}: {what}\nhint: {} -m pip install torch=={VERSION}, or unset {PYTHON}",
            python.display(),
            python.display()
        )
    })?;
    Ok((programs, libraries))
}

/// The folders of a virtual environment of our own, made or completed if need be.
fn own(environment: &Path) -> Result<Folders, String> {
    let programs = environment.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let python = programs.join(if cfg!(windows) { "python.exe" } else { "python" });
    if let Ok(libraries) = libraries(&python) {
        return Ok((programs, libraries));
    }
    eprintln!(
        "installing torch {VERSION} into {}; {PYTHON} names another Python that has it",
        environment.display()
    );
    let system = if cfg!(windows) { "python" } else { "python3" };
    let hint = format!(
        "\nhint: install Python 3.10 to 3.13 with venv and pip, or set {PYTHON} to a Python that has torch {VERSION}"
    );
    run(Command::new(system).args(["-m", "venv"]).arg(environment)).map_err(|what| what + &hint)?;
    let wanted = format!("torch=={VERSION}");
    run(Command::new(&python).args(["-m", "pip", "install", &wanted, "setuptools", "numpy"]))
        .map_err(|what| what + &hint)?;
    let libraries = libraries(&python).map_err(|what| format!("{}: {what}{hint}", python.display()))?;
    Ok((programs, libraries))
}

/// The folder of LibTorch's libraries, if this Python has the right version.
fn libraries(python: &Path) -> Result<PathBuf, String> {
    let output = Command::new(python)
        .args(["-c", DETAILS])
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("{} cannot be started: {error}", python.display()))?;
    match output.status.success() {
        true => details(&String::from_utf8_lossy(&output.stdout)),
        false => {
            let errors = String::from_utf8_lossy(&output.stderr);
            Err(errors.lines().last().unwrap_or("it failed without a word").to_owned())
        }
    }
}

/// What [`DETAILS`] printed.
fn details(printed: &str) -> Result<PathBuf, String> {
    match printed.lines().collect::<Vec<_>>()[..] {
        [VERSION, libraries] => Ok(libraries.into()),
        [version, _] => Err(format!("has torch {version}, but LibTorch must be {VERSION}")),
        _ => Err(format!("unexpected answer {printed:?}")),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown}: {status}")),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

/// A search path with `folder` first.
fn before(folder: &Path, rest: Option<&std::ffi::OsStr>) -> Result<OsString, String> {
    let rest = rest.map(|rest| env::split_paths(rest).collect::<Vec<_>>()).unwrap_or_default();
    env::join_paths([folder.to_owned()].into_iter().chain(rest)).map_err(|error| {
        format!("{}: {error}\nhint: move it to a path without this character", folder.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_version_is_taken() {
        assert_eq!(details("2.9.0\n/x/torch/lib\n"), Ok("/x/torch/lib".into()));
        assert_eq!(details("2.8.0\n/x\n"), Err("has torch 2.8.0, but LibTorch must be 2.9.0".into()));
        assert!(details("").unwrap_err().contains("unexpected"));
    }

    #[test]
    fn a_folder_goes_before_what_is_there() {
        let path = |rest: Option<&str>| before(Path::new("new"), rest.map(AsRef::as_ref)).unwrap();
        let folders = env::join_paths(["a", "b"]).unwrap();
        assert_eq!(path(folders.to_str()), env::join_paths(["new", "a", "b"]).unwrap());
        assert_eq!(path(None), "new");
    }

    #[test]
    fn a_python_that_is_not_there_is_named_with_a_hint() {
        let message = named(Path::new("no/such/python")).unwrap_err();
        assert!(
            message.contains("ASFT_PYTHON=no/such/python: no such file") && message.contains("hint:"),
            "{message}"
        );
    }
}
