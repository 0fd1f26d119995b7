//! The list of items that ended without a reply, or with a blank one, beside a run's output.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use super::{Judgment, Status};
use crate::{EvalError, files, jsonl};

/// Where the failures of a run with this output are listed: `OUTPUT.failures.jsonl`.
#[must_use]
pub fn failures_path(output: &Path) -> PathBuf {
    // Without the slash that may end a directory.
    let mut path = OsString::from(output.components().collect::<PathBuf>());
    path.push(".failures.jsonl");
    path.into()
}

/// Writes a row for every judgment whose status is `api_error`, `budget` or `empty`, with the fields that `name` gives
/// its item, `status` and `error`; replaces the list of an earlier run, even by an empty one. Gives the number of rows.
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
        .filter(|(_, judgment)| matches!(judgment.status, Status::ApiError | Status::Budget | Status::Empty))
        .map(|(index, judgment)| {
            let blank = (judgment.status == Status::Empty).then_some("the reply is blank");
            let mut row = name(index);
            row.insert("status".to_owned(), json!(judgment.status));
            row.insert("error".to_owned(), json!(judgment.error.as_deref().or(blank)));
            row
        })
        .collect();
    files::write(path, jsonl::lines(&rows, false).as_bytes())?;
    Ok(rows.len())
}
