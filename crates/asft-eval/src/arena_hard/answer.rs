//! Arena-Hard's answers.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    EvalError,
    answer_file::{AnswerFile, Text},
    schema::Kind,
};

/// Answers of one turn.
pub type Answers = AnswerFile<String, Turn>;

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// The text.
    pub content: String,
    /// Its length in tokens of cl100k, which v0.1 counts with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_len: Option<u64>,
    /// Further fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Text for Turn {
    fn text(&self) -> &str {
        &self.content
    }
}

/// Reads a file of answers.
///
/// # Errors
/// If it cannot be read or holds something else.
pub fn read_answers(path: &Path) -> Result<Answers, EvalError> {
    Answers::read(path, Kind::ArenaHardAnswer)
}

impl Answers {
    /// The whole part of the mean length in tokens; `None` if one is not known.
    #[must_use]
    pub fn average_tokens(&self) -> Option<u64> {
        let lengths: Option<Vec<u64>> =
            self.rows.keys().map(|question| self.turn(question, 0).ok()?.token_len).collect();
        let lengths = lengths.filter(|lengths| !lengths.is_empty())?;
        Some(lengths.iter().sum::<u64>() / lengths.len() as u64)
    }
}
