//! JSON Lines: rows with their line numbers.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{EvalError, files};

/// Rows of a file with their 1-based line numbers; blank lines are passed over. A `\uXXXX` that is half of a
/// surrogate pair becomes U+FFFD with a warning.
///
/// # Errors
/// If the file cannot be read, is not UTF-8, or a line is no JSON object.
pub fn read(path: &Path) -> Result<Vec<(usize, Value)>, EvalError> {
    let text = files::read_text(path)?;
    let mut rows = vec![];
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let row = index + 1;
        let not_json = |error: &serde_json::Error| {
            let hint = match error.is_eof() && !line.ends_with('\n') {
                true => "the last line was cut short; delete it",
                false => "one object a line (JSON Lines)",
            };
            EvalError::row(path, row, format!("is no JSON: {error}\nhint: {hint}"))
        };
        let value = match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) => match without_lone_surrogates(line) {
                Some(mended) => {
                    tracing::warn!("{}:{row}: half a surrogate pair became U+FFFD", path.display());
                    serde_json::from_str(&mended).map_err(|error| not_json(&error))?
                }
                None => return Err(not_json(&error)),
            },
        };
        match value {
            Value::Object(_) => rows.push((row, value)),
            _ => {
                return Err(EvalError::row(
                    path,
                    row,
                    "is no JSON object\nhint: one object a line (JSON Lines)",
                ));
            }
        }
    }
    Ok(rows)
}

/// Rows of a file as `T`; unknown fields are passed over where `T` lets them.
///
/// # Errors
/// As [`read`], and if a row does not fit `T`; the message names the field.
pub fn read_as<T: DeserializeOwned>(path: &Path) -> Result<Vec<(usize, T)>, EvalError> {
    read(path)?.into_iter().map(|(row, value)| Ok((row, row_as(path, row, value)?))).collect()
}

/// One row as `T`.
///
/// # Errors
/// If it does not fit; the message names the field.
pub fn row_as<T: DeserializeOwned>(path: &Path, row: usize, value: Value) -> Result<T, EvalError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        let inner = error.into_inner();
        let what = if field == "." { inner.to_string() } else { format!("{field}: {inner}") };
        EvalError::row(path, row, what)
    })
}

/// The line with every `\uD800`–`\uDFFF` that has no partner replaced; `None` if there is none.
fn without_lone_surrogates(line: &str) -> Option<String> {
    let bytes = line.as_bytes();
    let escape = |at: usize| -> Option<u32> {
        if bytes.get(at) != Some(&b'\\') || bytes.get(at + 1) != Some(&b'u') {
            return None;
        }
        u32::from_str_radix(line.get(at + 2..at + 6)?, 16).ok()
    };
    let (mut out, mut at, mut copied, mut found) = (String::new(), 0, 0, false);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match escape(at) {
            Some(0xD800..=0xDBFF) if matches!(escape(at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0xD800..=0xDFFF) => {
                out += &line[copied..at];
                out += "\\ufffd";
                at += 6;
                copied = at;
                found = true;
            }
            _ => at += 2,
        }
    }
    out += &line[copied..];
    found.then_some(out)
}

/// Rows as text, a line each; with `ascii` everything beyond ASCII as `\uXXXX`, as Python's json writes it.
#[must_use]
pub fn lines(rows: &[impl Serialize], ascii: bool) -> String {
    let mut text = String::new();
    for row in rows {
        let line = serde_json::to_string(row).expect("rows hold numbers and texts");
        match ascii {
            false => text += &line,
            true => line.chars().for_each(|letter| match letter.is_ascii() && letter != '\u{7f}' {
                true => text.push(letter),
                false => {
                    let mut units = [0; 2];
                    letter.encode_utf16(&mut units).iter().for_each(|unit| text += &format!("\\u{unit:04x}"));
                }
            }),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn rows_keep_their_line_numbers() {
        let file = file("{\"a\": 1}\n\n  \n{\"a\": \"\\/ \\u00e9\"}\n");
        let rows = read(file.path()).unwrap();
        assert_eq!(rows.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(rows[1].1["a"], "/ é");
    }

    #[test]
    fn lone_surrogates_become_replacement_characters() {
        let file = file("{\"a\": \"\\\\ud800 \\ud83d\\ude00 \\ud83d x \\udc00\"}\n");
        assert_eq!(read(file.path()).unwrap()[0].1["a"], "\\ud800 😀 \u{fffd} x \u{fffd}");
    }

    #[test]
    fn the_row_that_is_no_utf8_is_named() {
        let mut file = file("{\"a\": \"é\"}\n\n");
        file.write_all(b"{\"a\": \"\xe9\"}\n").unwrap();
        let error = read(file.path()).unwrap_err();
        assert!(error.to_string().contains(":3: is no UTF-8") && error.is_input(), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named_by_row_and_field() {
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code, reason = "only its reading is looked at")]
        struct Row {
            turns: Vec<String>,
        }
        for (text, what) in [
            ("{\"turns\": []}\n{\"turns\": [1]}\n", ":2: turns[0]: invalid type: integer `1`"),
            ("{}\n", ":1: missing field `turns`"),
            ("[1]\n", ":1: is no JSON object"),
            ("{\"turns\": [\n", "\nhint: one object a line"),
            ("{}\n{\"turns\": [\"a", ":2: is no JSON: EOF"),
            ("{}\n{\"turns\": [\"a", "\nhint: the last line was cut short; delete it"),
        ] {
            let file = file(text);
            let error = read_as::<Row>(file.path()).unwrap_err();
            assert!(error.to_string().contains(what) && error.is_input(), "{text}: {error}");
        }
    }

    #[test]
    fn ascii_lines_are_those_of_python() {
        let rows = [serde_json::json!({"text": "é 😀 /\u{7f}"})];
        assert_eq!(lines(&rows, true), "{\"text\":\"\\u00e9 \\ud83d\\ude00 /\\u007f\"}\n");
        assert_eq!(lines(&rows, false), "{\"text\":\"é 😀 /\u{7f}\"}\n");
    }
}
