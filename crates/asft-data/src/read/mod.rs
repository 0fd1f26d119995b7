//! Rows out of files: JSON, JSON Lines and Parquet, each also gzip- or zstd-compressed.

mod json;
mod parquet;

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value};

pub use self::json::kind;
use crate::{DataError, Origin};

/// One row with the place it was read from.
pub type Row = (Origin, Map<String, Value>);

/// The rows of one file in file order; nothing follows an error.
pub type Rows = Box<dyn Iterator<Item = Result<Row, DataError>>>;

/// Where rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file; its name says how to read it.
    File(PathBuf),
    /// Data inside the program. Its name is read like a file name and stands in messages.
    Embedded {
        /// A file name such as `quickstart.jsonl`.
        name: &'static str,
        /// The contents of that file.
        bytes: &'static [u8],
    },
}

impl Source {
    /// The sources that [`expand`] finds for `patterns`.
    pub fn expand(patterns: &[String]) -> Result<Vec<Self>, DataError> {
        Ok(expand(patterns)?.into_iter().map(Self::File).collect())
    }

    /// The name messages use.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Embedded { name, .. } => Path::new(name),
        }
    }

    fn reader(&self) -> Result<Box<dyn Read>, DataError> {
        match self {
            Self::File(path) if !path.exists() => Err(DataError::MissingFile { path: path.clone() }),
            Self::File(path) => {
                let file = File::open(path).map_err(|source| io_error(path, 0, source))?;
                Ok(Box::new(BufReader::new(file)))
            }
            Self::Embedded { bytes, .. } => Ok(Box::new(*bytes)),
        }
    }
}

/// What the name of a file says about its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Container {
    rows: RowFormat,
    compression: Compression,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowFormat {
    Json,
    JsonLines,
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Container {
    fn of(path: &Path) -> Result<Self, DataError> {
        let unknown = || DataError::UnknownContainer { path: path.to_owned() };
        let name = path.file_name().ok_or_else(unknown)?.to_string_lossy().to_ascii_lowercase();
        let (name, compression) = if let Some(name) = name.strip_suffix(".gz") {
            (name, Compression::Gzip)
        } else if let Some(name) = name.strip_suffix(".zst") {
            (name, Compression::Zstd)
        } else {
            (name.as_str(), Compression::None)
        };
        let rows = match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("json") => RowFormat::Json,
            Some("jsonl" | "ndjson") => RowFormat::JsonLines,
            Some("parquet") => RowFormat::Parquet,
            _ => return Err(unknown()),
        };
        Ok(Self { rows, compression })
    }
}

/// Opens `source` and reads its rows as they are asked for.
pub fn open(source: &Source) -> Result<Rows, DataError> {
    let file: Arc<Path> = source.path().into();
    let container = Container::of(&file)?;
    let reader = source.reader()?;
    let reader: Box<dyn Read> = match container.compression {
        Compression::None => reader,
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            Box::new(zstd::stream::read::Decoder::new(reader).map_err(|source| io_error(&file, 0, source))?)
        }
    };
    match container.rows {
        RowFormat::Json => json::rows(reader, file),
        RowFormat::JsonLines => json::lines(reader, file),
        RowFormat::Parquet => parquet::rows(reader, file),
    }
}

/// The files that `patterns` name: each pattern's in sorted order, none twice.
///
/// A name without `*`, `?` or `[`, or one of an existing file, is taken as it is.
///
/// # Errors
/// If a named file is missing or a pattern matches nothing.
pub fn expand(patterns: &[String]) -> Result<Vec<PathBuf>, DataError> {
    let mut files: Vec<PathBuf> = vec![];
    for pattern in patterns {
        let literal = PathBuf::from(pattern);
        let mut found = if literal.is_file() {
            vec![literal]
        } else if !pattern.contains(['*', '?', '[']) {
            return Err(match literal.exists() {
                true => DataError::NotAFile { path: literal },
                false => DataError::MissingFile { path: literal },
            });
        } else {
            matches(pattern)?
        };
        found.sort();
        for file in found {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>, DataError> {
    let paths = glob::glob(pattern)
        .map_err(|error| DataError::BadPattern { pattern: pattern.to_owned(), reason: error.to_string() })?;
    let mut found = vec![];
    for path in paths {
        let path = path.map_err(|error| {
            let path = error.path().to_owned();
            DataError::Io { path, row: 0, source: error.into() }
        })?;
        if path.is_file() {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(DataError::NoMatch { pattern: pattern.to_owned() });
    }
    Ok(found)
}

fn io_error(path: &Path, row: usize, source: std::io::Error) -> DataError {
    DataError::Io { path: path.to_owned(), row, source }
}

#[cfg(test)]
mod tests;
