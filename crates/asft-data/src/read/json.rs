//! JSON arrays and JSON Lines, parsed one row at a time.

use std::{
    io::{BufRead, BufReader, Chain, Cursor, Read},
    path::Path,
    sync::Arc,
};

use serde_json::Value;

use super::{Row, Rows, io_error};
use crate::{DataError, Origin};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

type Text = BufReader<Chain<Cursor<Vec<u8>>, Box<dyn Read>>>;

/// The objects of a JSON array. A file that begins with `{` holds JSON Lines whatever its name says, as
/// the Hugging Face hub has many.
pub(super) fn rows(reader: Box<dyn Read>, file: Arc<Path>) -> Result<Rows, DataError> {
    let mut text = without_byte_order_mark(reader, &file)?;
    let mut head = vec![];
    loop {
        let buffer = text.fill_buf().map_err(|source| io_error(&file, 0, source))?;
        let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let (all_blank, more) = (blank == buffer.len(), !buffer.is_empty());
        let lines = buffer.get(blank) == Some(&b'{');
        head.extend_from_slice(&buffer[..blank]);
        text.consume(blank);
        if lines {
            let whole: Box<dyn Read> = Box::new(Cursor::new(head).chain(text));
            return self::lines(whole, file);
        }
        if !all_blank || !more {
            break;
        }
    }
    text.read_to_end(&mut head).map_err(|source| io_error(&file, 0, source))?;
    Ok(Box::new(Array { text: head, at: 0, row: 0, end: false, file }))
}

/// One object a line; blank lines are skipped but counted.
pub(super) fn lines(reader: Box<dyn Read>, file: Arc<Path>) -> Result<Rows, DataError> {
    let mut text = without_byte_order_mark(reader, &file)?;
    let mut line = 0;
    let mut buffer = vec![];
    let mut failed = false;
    Ok(Box::new(std::iter::from_fn(move || {
        while !failed {
            buffer.clear();
            match text.read_until(b'\n', &mut buffer) {
                Ok(0) => return None,
                Ok(_) => line += 1,
                Err(source) => {
                    failed = true;
                    return Some(Err(io_error(&file, line, source)));
                }
            }
            if buffer.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let origin = Origin { file: file.clone(), row: line };
            let row = serde_json::from_slice(&buffer)
                .map_err(|error| json_error(&origin, &error, line, error.column()))
                .and_then(|value| object(origin, value));
            failed = row.is_err();
            return Some(row);
        }
        None
    })))
}

/// The elements of an array in memory, parsed when asked for: one element at a time as a value, and an
/// error knows its row.
struct Array {
    text: Vec<u8>,
    at: usize,
    row: usize,
    end: bool,
    file: Arc<Path>,
}

impl Iterator for Array {
    type Item = Result<Row, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.end {
            return None;
        }
        let row = self.element().transpose();
        self.end = !matches!(row, Some(Ok(_)));
        row
    }
}

impl Array {
    fn element(&mut self) -> Result<Option<Row>, DataError> {
        match (self.row, self.peek()) {
            (0, Some(b'[')) => {
                self.at += 1;
                if self.peek() == Some(b']') {
                    return self.finish();
                }
            }
            (0, None) => return Ok(None),
            (0, _) => return Err(self.error("expected `[`, the start of an array of objects")),
            (_, Some(b',')) => self.at += 1,
            (_, Some(b']')) => return self.finish(),
            (_, None) => return Err(self.error("the file ends before the array does")),
            (_, _) => return Err(self.error("expected `,` or `]`")),
        }
        self.peek();
        self.row += 1;
        let origin = self.origin();
        let rest = &self.text[self.at..];
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                object(origin, value).map(Some)
            }
            Some(Err(error)) => {
                // The parser counts from the start of this element.
                let (line, column) = position(&self.text, self.at);
                let column = if error.line() == 1 { column - 1 + error.column() } else { error.column() };
                Err(json_error(&origin, &error, line + error.line() - 1, column))
            }
            None => Err(self.error("the file ends before the array does")),
        }
    }

    /// Checks that nothing follows the closing bracket.
    fn finish(&mut self) -> Result<Option<Row>, DataError> {
        self.at += 1;
        match self.peek() {
            None => Ok(None),
            Some(_) => Err(self.error("something follows the end of the array")),
        }
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let blank = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.at += blank;
        self.text.get(self.at).copied()
    }

    fn origin(&self) -> Origin {
        Origin { file: self.file.clone(), row: self.row }
    }

    fn error(&self, reason: &str) -> DataError {
        let (line, column) = position(&self.text, self.at);
        DataError::Json { origin: self.origin(), line, column, reason: reason.to_owned() }
    }
}

/// 1-based line and column of the byte `at`; called once, for an error.
fn position(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    (line, at - start + 1)
}

fn without_byte_order_mark(reader: Box<dyn Read>, file: &Path) -> Result<Text, DataError> {
    let mut reader = reader;
    let mut head = vec![];
    (&mut reader)
        .take(BYTE_ORDER_MARK.len() as u64)
        .read_to_end(&mut head)
        .map_err(|source| io_error(file, 0, source))?;
    if head == BYTE_ORDER_MARK {
        head.clear();
    }
    Ok(BufReader::new(Cursor::new(head).chain(reader)))
}

fn object(origin: Origin, value: Value) -> Result<Row, DataError> {
    let hint = match &value {
        Value::Object(_) => "",
        Value::Array(_) => "an array of rows belongs in a file named .json, with one row an element",
        _ => "write each row as {\"key\": value, …}",
    };
    match value {
        Value::Object(map) => Ok((origin, map)),
        other => Err(DataError::NotAnObject { origin, found: kind(&other), hint }),
    }
}

/// What a JSON value is, in words.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn json_error(origin: &Origin, error: &serde_json::Error, line: usize, column: usize) -> DataError {
    // The position is relative to what was parsed, so it must not be shown twice.
    let reason = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    let reason = reason.strip_suffix(&suffix).unwrap_or(&reason).to_owned();
    DataError::Json { origin: origin.clone(), line, column, reason }
}
