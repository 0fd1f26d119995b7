//! Files of answers, one row a question: MT-Bench's, Arena-Hard's, and MT-Bench's reference answers.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{EvalError, files, jsonl, schema::Kind, sha256::sha256_hex};

/// The answers to one question, with questions known by `Q` and turns written as `T`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerRow<Q, T> {
    /// The question.
    pub question_id: Q,
    /// 22 characters that name the answer.
    #[serde(default)]
    pub answer_id: String,
    /// The model, as the file's maker named it; the file's name is what counts.
    #[serde(default)]
    pub model_id: String,
    /// The answers, of which the first is judged.
    pub choices: Vec<Choice<T>>,
    /// When it was answered, in seconds.
    #[serde(default)]
    pub tstamp: f64,
    /// Further fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One answer to a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice<T> {
    /// Its number, from 0.
    #[serde(default)]
    pub index: usize,
    /// One text a turn.
    pub turns: Vec<T>,
    /// Further fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A model's answers.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerFile<Q: Ord, T> {
    /// The model's id: the file's name without its ending.
    pub id: String,
    /// Where it was read.
    pub path: PathBuf,
    /// One row a question.
    pub rows: BTreeMap<Q, AnswerRow<Q, T>>,
}

impl<Q, T> AnswerFile<Q, T>
where
    Q: Ord + Clone + Display + Serialize + DeserializeOwned,
    T: Serialize + DeserializeOwned,
{
    /// Reads a file of `kind`; of several rows for a question the last counts.
    ///
    /// # Errors
    /// If it cannot be read or holds something else.
    pub fn read(path: &Path, kind: Kind) -> Result<Self, EvalError> {
        let mut rows = BTreeMap::new();
        for (row, answer) in kind.rows::<AnswerRow<Q, T>>(path)? {
            if answer.choices.is_empty() {
                return Err(EvalError::row(path, row, "choices: there is no answer"));
            }
            rows.insert(answer.question_id.clone(), answer);
        }
        Ok(Self { id: stem(path), path: path.to_owned(), rows })
    }

    /// Writes the rows in the order of their questions' ids.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), EvalError> {
        let rows: Vec<_> = self.rows.values().collect();
        files::write(path, jsonl::lines(&rows, false).as_bytes())
    }

    /// The first answer's turn, from 0.
    ///
    /// # Errors
    /// If the question or the turn has no answer.
    pub fn turn(&self, question: &Q, turn: usize) -> Result<&T, EvalError> {
        let row = self.rows.get(question).ok_or_else(|| {
            EvalError::Input(format!(
                "{}: has no answer to question {question}\nhint: answer it first, or leave it out of the questions (--limit N takes the first N)",
                self.path.display()
            ))
        })?;
        row.choices.first().and_then(|choice| choice.turns.get(turn)).ok_or_else(|| {
            EvalError::Input(format!(
                "{}: question {question} has no answer in turn {}",
                self.path.display(),
                turn + 1
            ))
        })
    }

    /// Fails if there are answers to questions that are none of `known`.
    ///
    /// # Errors
    /// If so, with their number and the first.
    pub fn only_questions(&self, known: impl Fn(&Q) -> bool) -> Result<(), EvalError> {
        let unknown: Vec<_> = self.rows.keys().filter(|question| !known(question)).collect();
        match unknown.first() {
            None => Ok(()),
            Some(first) => Err(EvalError::Input(format!(
                "{}: answers {} questions that are not asked, first {first}\nhint: give the question file that \
                 was answered",
                self.path.display(),
                unknown.len()
            ))),
        }
    }
}

/// What FastChat stores where an answer or a judgment could not be had.
pub(crate) const FASTCHAT_ERROR: &str = "$ERROR$";

/// A turn of an answer, however a benchmark writes it.
pub trait Text {
    /// What was said.
    fn text(&self) -> &str;
}

impl Text for String {
    fn text(&self) -> &str {
        self
    }
}

impl<Q: Ord, T: Text> AnswerFile<Q, T> {
    /// Whether one of a question's first turns is no answer but FastChat's word for a failure.
    pub(crate) fn has_failed(&self, question: &Q, turns: usize) -> bool {
        let choice = self.rows.get(question).and_then(|row| row.choices.first());
        choice.is_some_and(|choice| choice.turns.iter().take(turns).any(|turn| turn.text() == FASTCHAT_ERROR))
    }
}

/// Tells how many turns are not judged because an answer of this file failed.
pub(crate) fn warn_of_failed(failed: &BTreeMap<&str, usize>) {
    for (id, count) in failed {
        tracing::warn!("{id}: {count} turns have a failed answer ({FASTCHAT_ERROR}) and are not judged");
    }
}

/// Fails if two files name one model: their judgments could not be told apart.
///
/// # Errors
/// If so, with the name.
pub fn distinct_ids<'a>(ids: impl IntoIterator<Item = &'a str>) -> Result<(), EvalError> {
    let mut seen = std::collections::BTreeSet::new();
    match ids.into_iter().find(|id| !seen.insert(*id)) {
        None => Ok(()),
        Some(id) => Err(EvalError::Input(format!(
            "two answer files have the name {id}\nhint: the file's name is the model's id; rename one"
        ))),
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Names an answer by its texts: 22 characters of base 57, always the same for the same answer.
#[must_use]
pub fn answer_id(model_id: &str, question_id: &str, turns: &[&str]) -> String {
    const ALPHABET: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let digest = sha256_hex(&[&[model_id, question_id], turns].concat().join("\0"));
    let mut number = u128::from_str_radix(&digest[..32], 16).expect("hexadecimal digits");
    let digits = (0..22).map(|_| {
        let digit = (number % 57) as usize;
        number /= 57;
        char::from(ALPHABET[digit])
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answers = AnswerFile<i64, String>;

    #[test]
    fn the_last_row_counts_and_unknown_fields_stay() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("my.model.jsonl"), directory.path().join("two.jsonl"));
        let text = "{\"question_id\":9,\"answer_id\":\"a\",\"model_id\":\"m\",\"choices\":[{\"index\":0,\
                    \"turns\":[\"é\"],\"x\":1}],\"tstamp\":2.0,\"kept\":{\"b\":1,\"a\":2}}\n";
        let old = "{\"question_id\":9,\"choices\":[{\"turns\":[\"old\"]}]}\n";
        let first = "{\"question_id\":3,\"choices\":[{\"turns\":[\"b\"]}]}\n";
        std::fs::write(&one, format!("{old}{text}{first}")).unwrap();
        let answers = Answers::read(&one, Kind::MtBenchAnswer).unwrap();
        assert_eq!((answers.id.as_str(), answers.rows.len()), ("my.model", 2));
        answers.write(&two).unwrap();
        let written = std::fs::read_to_string(&two).unwrap();
        assert!(written.starts_with("{\"question_id\":3,") && written.ends_with(text), "{written}");
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let row = AnswerRow {
            question_id: 7,
            answer_id: String::new(),
            model_id: String::new(),
            choices: vec![Choice { index: 0, turns: vec!["a".to_owned()], other: Map::new() }],
            tstamp: 0.0,
            other: Map::new(),
        };
        let answers = Answers { id: "m".into(), path: "m.jsonl".into(), rows: [(7, row)].into() };
        assert_eq!(answers.turn(&7, 0).unwrap(), "a");
        assert!(answers.turn(&7, 1).unwrap_err().to_string().contains("question 7 has no answer in turn 2"));
        assert!(answers.turn(&8, 0).unwrap_err().to_string().contains("no answer to question 8"));
        let error = answers.only_questions(|question| *question == 8).unwrap_err().to_string();
        assert!(error.contains("answers 1 questions that are not asked, first 7"), "{error}");
        assert!(distinct_ids(["a", "b", "a"]).unwrap_err().to_string().contains("the name a"));
    }

    #[test]
    fn answer_ids_are_22_letters_by_content() {
        let id = answer_id("m", "81", &["a", "b"]);
        assert_eq!(id.len(), 22);
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() && !b"01OIl".contains(&byte)));
        assert_eq!(id, answer_id("m", "81", &["a", "b"]));
        assert_ne!(id, answer_id("m", "82", &["a", "b"]));
    }
}
