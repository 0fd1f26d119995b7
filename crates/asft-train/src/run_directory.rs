//! The directory of a run: who may write to it, its files, and its newest whole checkpoint.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{config::RunConfig, error::TrainError, metrics::MetricsRow, tensorboard};

/// A run directory held by this process alone.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    metrics: File,
    events: File,
    _lock: File,
}

/// What stands at a path that a run wants to write to.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// Nothing, or an empty directory.
    Nothing,
    /// A run with this configuration.
    Run(Box<RunConfig>),
}

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const LOCK: &str = ".lock";
const CHECKPOINTS: &str = "checkpoints";
const EVALUATIONS: &str = "evaluations";
const TENSORBOARD: &str = "tensorboard";
/// How names of files begin that are not written to their end.
const UNFINISHED: &str = ".tmp";
const SKELETON: [&str; 4] = [LOCK, CHECKPOINTS, EVALUATIONS, TENSORBOARD];
/// TensorBoard takes every file with `tfevents` in its name.
const EVENTS: &str = "events.out.tfevents.asft";

impl RunDirectory {
    /// Looks without touching: fails where something other than a run stands there.
    pub fn inspect(path: &Path) -> Result<Found, TrainError> {
        let config = path.join(CONFIG);
        if config.is_file() {
            let text = std::fs::read_to_string(&config).map_err(TrainError::io(&config))?;
            let config = RunConfig::parse(&text, &config.display().to_string(), None, &[])?;
            return Ok(Found::Run(Box::new(config)));
        }
        let entries = match path.read_dir() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(unusable(path, error.to_string())),
            Ok(entries) => entries,
        };
        for entry in entries {
            let name = entry.map_err(|error| unusable(path, error.to_string()))?.file_name();
            let name = name.to_string_lossy();
            // A run that died before its configuration was written leaves only these.
            if !(SKELETON.contains(&name.as_ref()) || name.starts_with(UNFINISHED)) {
                let what =
                    format!("holds {name:?} but no run\nhint: name a new or empty directory with --output");
                return Err(unusable(path, what));
            }
        }
        Ok(Found::Nothing)
    }

    /// Fails where [`Self::open`] could not write, before hours are spent; leaves nothing behind.
    pub fn check_writable(path: &Path) -> Result<(), TrainError> {
        let existing = path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("."));
        let existing = if existing == Path::new("") { Path::new(".") } else { existing };
        let made = tempfile::tempfile_in(existing);
        made.map(drop).map_err(|error| unusable(path, format!("cannot be written: {error}")))
    }

    /// Creates the directory with its configuration, or opens the one that is there. Metrics after `step` are
    /// dropped: the steps after it will be made again.
    pub fn open(path: &Path, config: &RunConfig, step: Option<usize>) -> Result<Self, TrainError> {
        let failed = |error: std::io::Error| unusable(path, format!("cannot be written: {error}"));
        std::fs::create_dir_all(path.join(CHECKPOINTS)).map_err(failed)?;
        std::fs::create_dir_all(path.join(EVALUATIONS)).map_err(failed)?;
        std::fs::create_dir_all(path.join(TENSORBOARD)).map_err(failed)?;
        let lock = File::create(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(unusable(path, "another process is training here")),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        [path.to_owned(), path.join(EVALUATIONS), path.join(TENSORBOARD)]
            .iter()
            .try_for_each(|directory| remove_unfinished(directory))
            .map_err(failed)?;
        write_atomically(&path.join(CONFIG), config.to_toml().as_bytes())?;
        let kept: Vec<MetricsRow> = match step {
            None => vec![],
            Some(step) => read_metrics(path)?.into_iter().filter(|row| row.step <= step).collect(),
        };
        let metrics_path = path.join(METRICS);
        write_atomically(&metrics_path, lines(&kept).as_bytes())?;
        let metrics = OpenOptions::new().append(true).open(&metrics_path).map_err(failed)?;
        // Made again from the rows that are kept: what came after them must not be shown twice.
        let events_path = path.join(TENSORBOARD).join(EVENTS);
        let now = wall_time();
        let mut events = tensorboard::header(now);
        kept.iter().for_each(|row| events.extend(tensorboard::event(row, now)));
        write_atomically(&events_path, &events)?;
        let events = OpenOptions::new().append(true).open(&events_path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), metrics, events, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a row to `metrics.jsonl` and to TensorBoard's events.
    pub fn append(&mut self, row: &MetricsRow) -> Result<(), TrainError> {
        self.metrics
            .write_all(lines(std::slice::from_ref(row)).as_bytes())
            .map_err(TrainError::io(self.path.join(METRICS)))?;
        self.events
            .write_all(&tensorboard::event(row, wall_time()))
            .map_err(TrainError::io(self.path.join(TENSORBOARD).join(EVENTS)))
    }

    /// Makes every row so far durable.
    pub fn sync(&self) -> Result<(), TrainError> {
        self.metrics.sync_all().map_err(TrainError::io(self.path.join(METRICS)))
    }

    /// Writes the per-pair scores of an evaluation.
    pub fn write_evaluation(&self, step: usize, rows: &[impl Serialize]) -> Result<(), TrainError> {
        write_atomically(&evaluation_path(&self.path, step), lines(rows).as_bytes())
    }
}

/// Seconds since 1970.
fn wall_time() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The rows of a run's `metrics.jsonl`; a last line that was cut by a crash is passed over.
pub fn read_metrics(run: &Path) -> Result<Vec<MetricsRow>, TrainError> {
    let path = run.join(METRICS);
    match path.exists() {
        true => read_lines(&path),
        false => Ok(vec![]),
    }
}

/// The per-pair scores of a run's evaluation.
pub fn read_evaluation<T: DeserializeOwned>(run: &Path, step: usize) -> Result<Vec<T>, TrainError> {
    read_lines(&evaluation_path(run, step))
}

fn evaluation_path(run: &Path, step: usize) -> PathBuf {
    run.join(EVALUATIONS).join(format!("step-{step}.jsonl"))
}

fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, TrainError> {
    let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| TrainError::RunDirectory {
            path: path.to_owned(),
            what: format!("line {}: {error}", index + 1),
        })
    };
    whole.lines().enumerate().map(parse).collect()
}

fn lines(rows: &[impl Serialize]) -> String {
    let line = |row| serde_json::to_string(row).expect("rows hold numbers and texts") + "\n";
    rows.iter().map(line).collect()
}

/// Writes a file under a temporary name, syncs it and renames it.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let write = || {
        let mut file = new_file().tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_directory(directory)
    };
    write().map_err(TrainError::io(path))
}

/// Removes what a killed [`write_atomically`] left in a directory that no other process writes to.
fn remove_unfinished(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Temporary files that end up with the permissions of any other new file.
fn new_file() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
}

/// Makes renames in a directory durable.
pub fn sync_directory(path: &Path) -> std::io::Result<()> {
    match cfg!(unix) {
        true => File::open(path)?.sync_all(),
        false => Ok(()),
    }
}

fn unusable(path: &Path, what: impl Into<String>) -> TrainError {
    TrainError::RunDirectory { path: path.to_owned(), what: what.into() }
}
