//! Arena-Hard's questions.

use std::{collections::HashSet, path::Path};

use serde::{Deserialize, Serialize};

use crate::{EvalError, schema::Kind};

/// A question of one turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// 32 hexadecimal digits.
    pub question_id: String,
    /// `arena-hard-v0.1`.
    #[serde(default)]
    pub category: String,
    /// What it is about.
    #[serde(default)]
    pub cluster: String,
    /// What the user says.
    pub turns: Vec<Said>,
}

/// What a user says in a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// The text.
    pub content: String,
}

/// Questions in the order in which they are judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Questions {
    /// In the order of the file.
    pub rows: Vec<Question>,
}

impl Questions {
    /// Reads a file of questions.
    ///
    /// # Errors
    /// If it cannot be read, holds something else, repeats a question, or a question has not exactly one turn.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let mut seen = HashSet::new();
        let mut rows = vec![];
        for (row, question) in Kind::ArenaHardQuestion.rows::<Question>(path)? {
            if !seen.insert(question.question_id.clone()) {
                let what = format!("question_id: {} stands in the file twice", question.question_id);
                return Err(EvalError::row(path, row, what));
            }
            if question.turns.len() != 1 {
                let what = format!("turns: {} of them, where one is judged", question.turns.len());
                return Err(EvalError::row(path, row, what));
            }
            rows.push(question);
        }
        Ok(Self { rows })
    }
}
