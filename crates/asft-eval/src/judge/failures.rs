//! The list of items that ended without a reply, beside a run's output.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use super::{Judgment, Status};
use crate::{EvalError, jsonl};

/// Where the failures of a run with this output are listed: `OUTPUT.failures.jsonl`.
#[must_use]
pub fn failures_path(output: &Path) -> PathBuf {
    // Without the slash that may end a directory.
    let mut path = OsString::from(output.components().collect::<PathBuf>());
    path.push(".failures.jsonl");
    path.into()
}

/// Writes a row for every judgment whose status is `api_error` or `budget`, with the fields that `name` gives its
/// item, `status` and `error`; replaces the list of an earlier run, even by an empty one. Gives the number of rows.
///
/// # Errors
/// If the file cannot be written.
pub fn write_failures(
    path: &Path,
    judgments: &[Judgment],
    name: impl Fn(usize) -> Map<String, Value>,
) -> Result<usize, EvalError> {
    let rows: Vec<Map<String, Value>> = judgments
        .iter()
        .enumerate()
        .filter(|(_, judgment)| matches!(judgment.status, Status::ApiError | Status::Budget))
        .map(|(index, judgment)| {
            let mut row = name(index);
            row.insert("status".to_owned(), json!(judgment.status));
            row.insert("error".to_owned(), json!(judgment.error));
            row
        })
        .collect();
    jsonl::write_file(path, jsonl::lines(&rows, false).as_bytes())?;
    Ok(rows.len())
}
