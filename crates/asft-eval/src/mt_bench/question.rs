//! MT-Bench's questions.

use std::{collections::BTreeSet, path::Path};

use serde::{Deserialize, Serialize};

use crate::{EvalError, schema::Kind};

/// Categories that are judged against a reference answer.
const WITH_REFERENCE: [&str; 3] = ["math", "reasoning", "coding"];

/// A question of one or two turns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Its number; 81 to 160 in the official set.
    pub question_id: i64,
    /// One of eight in the official set.
    pub category: String,
    /// What the user says in each turn.
    pub turns: Vec<String>,
    /// Reference answers, which the judge does not see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Vec<String>>,
}

impl Question {
    /// Whether it is judged against a reference answer.
    #[must_use]
    pub fn needs_reference(&self) -> bool {
        WITH_REFERENCE.contains(&self.category.as_str())
    }
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
    /// If it cannot be read, holds something else, repeats a question, or a question has not one or two turns.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let mut seen = BTreeSet::new();
        let mut rows = vec![];
        for (row, question) in Kind::MtBenchQuestion.rows::<Question>(path)? {
            if !seen.insert(question.question_id) {
                let what = format!("question_id: {} stands in the file twice", question.question_id);
                return Err(EvalError::row(path, row, what));
            }
            if !(1..=2).contains(&question.turns.len()) {
                let what = format!("turns: {} of them, where one or two are judged", question.turns.len());
                return Err(EvalError::row(path, row, what));
            }
            rows.push(question);
        }
        Ok(Self { rows })
    }

    /// The question of this number.
    #[must_use]
    pub fn get(&self, question_id: i64) -> Option<&Question> {
        self.rows.iter().find(|question| question.question_id == question_id)
    }

    /// Judgments that a model should have: one a turn.
    #[must_use]
    pub fn expected(&self) -> usize {
        self.rows.iter().map(|question| question.turns.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_files_are_told_by_row_and_field() {
        let good = "{\"question_id\":1,\"category\":\"math\",\"turns\":[\"a\"]}\n";
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, message) in [
            (format!("{good}{good}"), ":2: question_id: 1 stands in the file twice"),
            (
                "{\"question_id\":1,\"category\":\"x\",\"turns\":[\"a\",\"b\",\"c\"]}".into(),
                ":1: turns: 3 of them",
            ),
            ("{\"question_id\":\"0f\",\"category\":\"x\",\"turns\":[\"a\"]}".into(), ":1: question_id: "),
            ("{\"question_id\":\"0f\",\"turns\":[{\"content\":\"a\"}]}".into(), "Arena-Hard v0.1 questions"),
            (String::new(), "holds no MT-Bench questions"),
        ] {
            std::fs::write(file.path(), &text).unwrap();
            let error = Questions::read(file.path()).unwrap_err();
            assert!(error.is_input() && error.to_string().contains(message), "{error}");
        }
        std::fs::write(file.path(), good).unwrap();
        let questions = Questions::read(file.path()).unwrap();
        assert!(questions.rows[0].needs_reference());
        assert_eq!(questions.expected(), 1);
    }
}
