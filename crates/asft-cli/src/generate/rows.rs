//! An output whose rows come in any order: each is appended as it comes, and the file is sorted when all are there, so
//! what was broken off is gone on with.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use asft_eval::{EvalError, files, jsonl};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{failure::Failure, output::Claim};

/// The rows of an output by their place among the input's.
pub struct Rows<T> {
    path: PathBuf,
    file: File,
    settings: String,
    done: BTreeMap<usize, Row<T>>,
    _claim: Claim,
}

#[derive(Serialize, Deserialize)]
struct Row<T> {
    /// 0-based place.
    index: usize,
    #[serde(flatten)]
    row: T,
    /// What it was made with: rows of other settings are not gone on from.
    settings: String,
}

impl<T: Serialize + DeserializeOwned> Rows<T> {
    /// Opens or makes the file, which no other process may write. Rows that it has must be of these settings and `fit` their places; a last line that was
    /// cut is dropped.
    pub fn open(path: &Path, settings: &str, fit: impl Fn(usize, &T) -> bool) -> Result<Self, Failure> {
        let claim = Claim::new(path)?;
        let text = match files::read_text(path) {
            Err(EvalError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut done = BTreeMap::new();
        for (index, line) in text.rsplit_once('\n').map_or("", |(whole, _)| whole).lines().enumerate() {
            let wrong = |what: String| {
                EvalError::row(
                    path,
                    index + 1,
                    format!("{what}\nhint: name another output, or move this one away"),
                )
            };
            let row: Row<T> = serde_json::from_str(line)
                .map_err(|error| wrong(format!("is no row of this command: {error}")))?;
            if row.settings != settings {
                return Err(wrong(format!("was made with {}, now it is {settings}", row.settings)).into());
            }
            if !fit(row.index, &row.row) {
                return Err(wrong(format!("does not belong to row {} of the input", row.index)).into());
            }
            done.insert(row.index, row);
        }
        let rows: Vec<_> = done.values().collect();
        files::write(path, jsonl::lines(&rows, false).as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).map_err(EvalError::io(path))?;
        Ok(Self { path: path.to_owned(), file, settings: settings.to_owned(), done, _claim: claim })
    }

    /// Whether a place has its row.
    pub fn has(&self, place: usize) -> bool {
        self.done.contains_key(&place)
    }

    /// Appends the row of a place.
    pub fn add(&mut self, place: usize, row: T) -> Result<(), Failure> {
        let row = Row { index: place, row, settings: self.settings.clone() };
        self.file.write_all(jsonl::lines(&[&row], false).as_bytes()).map_err(EvalError::io(&self.path))?;
        self.done.insert(place, row);
        Ok(())
    }

    /// Sorts the file, and gives the rows.
    pub fn finish(self) -> Result<Vec<T>, Failure> {
        let rows: Vec<_> = self.done.values().collect();
        files::write(&self.path, jsonl::lines(&rows, false).as_bytes())?;
        Ok(self.done.into_values().map(|row| row.row).collect())
    }
}
