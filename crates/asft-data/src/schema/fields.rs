//! Typed access to the keys of a row, with errors that say where and what.

use serde_json::{Map, Value};

use super::Schema;
use crate::{DataError, Message, Origin, read::kind};

/// A row on its way through a layout.
pub(super) struct Fields<'a> {
    pub(super) origin: &'a Origin,
    pub(super) schema: Schema,
    pub(super) row: &'a Map<String, Value>,
}

/// A turn as it stands in the file: the role's own spelling, and the key path to it.
pub(super) struct Turn {
    pub(super) path: String,
    pub(super) role: String,
    pub(super) text: String,
}

impl<'a> Fields<'a> {
    /// The value of `key`, which must be there.
    pub(super) fn value(&self, key: &str) -> Result<&'a Value, DataError> {
        self.row.get(key).ok_or_else(|| self.missing(key, self.row))
    }

    /// The string at `key`.
    pub(super) fn text(&self, key: &str) -> Result<&'a str, DataError> {
        let value = self.value(key)?;
        value.as_str().ok_or_else(|| self.wrong_type(key, "a string", value))
    }

    /// The string at `key`, empty if there is none.
    pub(super) fn optional_text(&self, key: &str) -> Result<&'a str, DataError> {
        match self.row.get(key) {
            None | Some(Value::Null) => Ok(""),
            Some(_) => self.text(key),
        }
    }

    /// The list at `key`.
    pub(super) fn list(&self, key: &str) -> Result<&'a [Value], DataError> {
        let value = self.value(key)?;
        let list = value.as_array();
        list.map(Vec::as_slice).ok_or_else(|| self.wrong_type(key, "a list", value))
    }

    /// The list of `{role, content}` at `key`.
    pub(super) fn messages(&self, key: &str) -> Result<Vec<Message>, DataError> {
        let turn = |(index, value)| {
            let turn = self.turn(&format!("{key}[{index}]"), value, "role", "content")?;
            Ok(Message::new(turn.role, turn.text))
        };
        self.list(key)?.iter().enumerate().map(turn).collect()
    }

    /// The list of `{role, content}` at `key`, of which the first must be the assistant's.
    pub(super) fn answer(&self, key: &str) -> Result<Vec<Message>, DataError> {
        let messages = self.messages(key)?;
        match messages.first() {
            Some(first) if first.role != "assistant" => {
                Err(self.wrong_role(&format!("{key}[0].role"), "assistant", &first.role))
            }
            _ => Ok(messages),
        }
    }

    /// One turn, whose keys are `role_key` and `text_key`.
    pub(super) fn turn(
        &self,
        path: &str,
        value: &Value,
        role_key: &str,
        text_key: &str,
    ) -> Result<Turn, DataError> {
        let Value::Object(turn) = value else {
            return Err(self.wrong_type(path, "an object", value));
        };
        let text = |key: &str| {
            let path = format!("{path}.{key}");
            let value = turn.get(key).ok_or_else(|| self.missing(&path, turn))?;
            let text = value.as_str().ok_or_else(|| self.wrong_type(&path, "a string", value))?;
            Ok::<_, DataError>(text.to_owned())
        };
        Ok(Turn { path: path.to_owned(), role: text(role_key)?, text: text(text_key)? })
    }

    /// `score_chosen` and `score_rejected`, in the row or in its `metadata`.
    pub(super) fn scores(&self) -> Option<(f64, f64)> {
        let scores = |row: &Map<String, Value>| {
            Some((row.get("score_chosen")?.as_f64()?, row.get("score_rejected")?.as_f64()?))
        };
        scores(self.row).or_else(|| scores(self.row.get("metadata")?.as_object()?))
    }

    /// An error for a key that is not among those of `there`.
    pub(super) fn missing(&self, key: &str, there: &Map<String, Value>) -> DataError {
        DataError::MissingKey {
            origin: self.origin.clone(),
            schema: self.schema.name(),
            key: key.to_owned(),
            found: there.keys().cloned().collect(),
            expected: self.schema.keys(),
        }
    }

    /// An error for a value of the wrong type.
    pub(super) fn wrong_type(&self, key: &str, expected: &'static str, found: &Value) -> DataError {
        DataError::WrongType {
            origin: self.origin.clone(),
            schema: self.schema.name(),
            key: key.to_owned(),
            expected,
            found: kind(found),
        }
    }

    /// An error for a role that cannot stand there.
    pub(super) fn wrong_role(&self, key: &str, expected: &'static str, found: &str) -> DataError {
        DataError::WrongRole {
            origin: self.origin.clone(),
            schema: self.schema.name(),
            key: key.to_owned(),
            expected,
            found: found.to_owned(),
        }
    }
}
