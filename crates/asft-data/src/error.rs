//! Everything that can be wrong with data, as fields a program can read and messages a person can act on.

use std::{io, path::PathBuf};

use crate::Origin;

/// Why data could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A GGUF file is damaged or lacks something.
    #[error(transparent)]
    Gguf(#[from] crate::gguf::GgufError),

    /// A tokenizer could not be read.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),

    /// A chat template could not be read.
    #[error(transparent)]
    Template(#[from] crate::template::TemplateError),

    /// A row could not be turned into tokens.
    #[error(transparent)]
    Encode(#[from] crate::encode::EncodeError),

    /// A file could not be opened or read to its end.
    #[error("cannot read {}{}: {source}", path.display(), after(*row))]
    Io {
        /// The file as it was named.
        path: PathBuf,
        /// The last line or row that was read whole; 0 before the first.
        row: usize,
        /// What the system or the decompressor said.
        source: io::Error,
    },

    /// A file that was named is not there.
    #[error("no such file: {}\nhint: a relative path is taken from the working directory", path.display())]
    MissingFile {
        /// The file as it was named.
        path: PathBuf,
    },

    /// A directory, a pipe or a device where a file is needed.
    #[error(
        "{} is not a regular file\nhint: write a pipe's contents to a file; name a directory's files as DIR/*.jsonl",
        path.display()
    )]
    NotAFile {
        /// The path as it was named.
        path: PathBuf,
    },

    /// A glob that matches no file.
    #[error("no file matches `{pattern}`\nhint: a relative pattern is taken from the working directory")]
    NoMatch {
        /// The pattern as it was given.
        pattern: String,
    },

    /// A glob that cannot be understood.
    #[error("`{pattern}` is not a file pattern: {reason}")]
    BadPattern {
        /// The pattern as it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A file name whose ending says nothing about its contents.
    #[error(
        "cannot tell what {} contains\nhint: name it .json, .jsonl, .ndjson or .parquet, with .gz or .zst after that if compressed",
        path.display()
    )]
    UnknownContainer {
        /// The file as it was named.
        path: PathBuf,
    },

    /// Text that is not the JSON it should be.
    #[error("{}: malformed JSON at line {line}, column {column}: {reason}", place(origin))]
    Json {
        /// The row it would have been; row 0 if the text goes wrong before the first.
        origin: Origin,
        /// 1-based line in the decompressed file.
        line: usize,
        /// 1-based column in bytes.
        column: usize,
        /// What the parser said.
        reason: String,
    },

    /// A row that is JSON, but not an object.
    #[error("{origin}: a row must be a JSON object, this is {found}\nhint: {hint}")]
    NotAnObject {
        /// The row.
        origin: Origin,
        /// What it is instead.
        found: &'static str,
        /// What can be done.
        hint: &'static str,
    },

    /// A Parquet file that cannot be decoded.
    #[error(
        "{}: cannot decode Parquet: {reason}\nhint: the file may be cut short or damaged; get it again",
        place(origin)
    )]
    Parquet {
        /// The row that could not be read; row 0 if the file as a whole could not.
        origin: Origin,
        /// What the decoder said.
        reason: String,
    },

    /// A file without a single row.
    #[error("{} has no rows", path.display())]
    NoRows {
        /// The file as it was named.
        path: PathBuf,
    },

    /// A row whose keys belong to no known layout.
    #[error("{origin}: no known layout has the keys {}\nhint: {hint}\nknown layouts:\n{known}", list(found))]
    UnknownSchema {
        /// The row.
        origin: Origin,
        /// Its keys.
        found: Vec<String>,
        /// What can be done.
        hint: &'static str,
        /// The layouts known and their keys, one a line.
        known: String,
    },

    /// Two layouts in one file.
    #[error(
        "{origin}: this row is in the {found} layout, the rows before it in {expected}\nhint: give each layout a file of its own"
    )]
    MixedSchemas {
        /// The first row that differs.
        origin: Origin,
        /// Its layout.
        found: &'static str,
        /// The layout of the first row.
        expected: &'static str,
    },

    /// A row without a key that its layout needs.
    #[error(
        "{origin}: no `{key}`, which the {schema} layout needs; it has {}\nhint: the keys of {schema} are {expected}",
        list(found)
    )]
    MissingKey {
        /// The row.
        origin: Origin,
        /// The layout of the file.
        schema: &'static str,
        /// The missing key, as a path.
        key: String,
        /// The keys that are there.
        found: Vec<String>,
        /// The keys of the layout.
        expected: &'static str,
    },

    /// A value of another type than its layout says.
    #[error("{origin}: `{key}` is {found}, the {schema} layout needs {expected}")]
    WrongType {
        /// The row.
        origin: Origin,
        /// The layout of the file.
        schema: &'static str,
        /// The key, as a path.
        key: String,
        /// What was needed.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },

    /// A speaker that its layout does not know, or not at this place.
    #[error("{origin}: `{key}` is \"{found}\", the {schema} layout needs {expected} there")]
    WrongRole {
        /// The row.
        origin: Origin,
        /// The layout of the file.
        schema: &'static str,
        /// The key, as a path.
        key: String,
        /// The roles allowed there.
        expected: &'static str,
        /// The role that is there.
        found: String,
    },

    /// A name for `data.format` that is not one.
    #[error("unknown format `{found}`{}\nhint: one of {known}", suggestion(suggested))]
    UnknownFormat {
        /// The name as it was given.
        found: String,
        /// A known name like it.
        suggested: Option<&'static str>,
        /// All known names.
        known: String,
    },

    /// Rows were read, but every one was dropped.
    #[error("{files}: none of {rows} rows can be used: {dropped}\nhint: {hint}")]
    NothingKept {
        /// The files.
        files: String,
        /// Rows read.
        rows: usize,
        /// Rows by reason.
        dropped: String,
        /// What can be done.
        hint: &'static str,
    },

    /// Pairs that cannot be divided into two parts as asked.
    #[error("cannot hold out {asked} of {pairs} pairs\nhint: both parts need at least one pair")]
    HeldOut {
        /// What was asked for.
        asked: String,
        /// Pairs there are.
        pairs: usize,
    },

    /// A sampler state that does not belong to this data.
    #[error(
        "the saved sampler state is not one of this data: {reason}\nhint: resume with the data files, filters and seed of the run that saved it"
    )]
    SamplerState {
        /// What does not fit.
        reason: String,
    },
}

/// A fault of the whole file is one of row 0.
fn place(origin: &Origin) -> String {
    match origin.row {
        0 => origin.file.display().to_string(),
        _ => origin.to_string(),
    }
}

fn after(row: usize) -> String {
    if row == 0 { String::new() } else { format!(" after row {row}") }
}

fn suggestion(name: &Option<&'static str>) -> String {
    name.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default()
}

fn list(keys: &[String]) -> String {
    if keys.is_empty() {
        return "no keys".to_owned();
    }
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}
