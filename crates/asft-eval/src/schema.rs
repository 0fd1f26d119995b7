//! What kind of row a benchmark's file holds, known by its fields, so that a wrong file is refused by name.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{EvalError, jsonl};

/// A kind of row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A question of MT-Bench.
    MtBenchQuestion,
    /// An answer, or reference answer, to one.
    MtBenchAnswer,
    /// A prompt for MT-Bench's judge.
    JudgePrompt,
    /// A rating of one answer.
    SingleJudgment,
    /// Two games between two answers.
    PairJudgment,
    /// A question of Arena-Hard v0.1.
    ArenaHardQuestion,
    /// An answer to one.
    ArenaHardAnswer,
    /// Two games against the baseline.
    ArenaHardJudgment,
    /// A battle that was made of a game.
    Battle,
    /// A row of a later Arena-Hard, whose statistics are others too.
    LaterArenaHard,
}

impl Kind {
    /// What the row looks like; `None` if like none of these.
    #[must_use]
    pub fn of(row: &Value) -> Option<Self> {
        let has = |field: &str| row.get(field).is_some();
        let first_turn = |turns: Option<&Value>| turns?.get(0).map(Value::is_string);
        if has("uid") && !has("question_id") {
            Some(Self::LaterArenaHard)
        } else if has("prompt_template") {
            Some(Self::JudgePrompt)
        } else if has("games") {
            Some(Self::ArenaHardJudgment)
        } else if has("g1_winner") {
            Some(Self::PairJudgment)
        } else if has("judgment") {
            Some(Self::SingleJudgment)
        } else if has("winner") {
            Some(Self::Battle)
        } else if has("choices") {
            Some(match first_turn(row["choices"].get(0).and_then(|choice| choice.get("turns")))? {
                true => Self::MtBenchAnswer,
                false => Self::ArenaHardAnswer,
            })
        } else if has("turns") {
            Some(match first_turn(row.get("turns"))? {
                true => Self::MtBenchQuestion,
                false => Self::ArenaHardQuestion,
            })
        } else if (has("messages") || has("prompt")) && (has("question_id") || has("category")) {
            Some(Self::LaterArenaHard)
        } else {
            None
        }
    }

    /// What a file of such rows holds.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MtBenchQuestion => "MT-Bench questions",
            Self::MtBenchAnswer => "MT-Bench answers",
            Self::JudgePrompt => "MT-Bench judge prompts",
            Self::SingleJudgment => "MT-Bench ratings",
            Self::PairJudgment => "MT-Bench pairwise judgments",
            Self::ArenaHardQuestion => "Arena-Hard v0.1 questions",
            Self::ArenaHardAnswer => "Arena-Hard v0.1 answers",
            Self::ArenaHardJudgment => "Arena-Hard v0.1 judgments",
            Self::Battle => "battles",
            Self::LaterArenaHard => "rows of a later Arena-Hard (uid, prompt or messages)",
        }
    }

    /// A row of this kind as `T`.
    ///
    /// # Errors
    /// If it is of another kind, which is named, or does not fit `T`.
    pub fn row<T: DeserializeOwned>(self, path: &Path, row: usize, value: Value) -> Result<T, EvalError> {
        match Self::of(&value) {
            Some(kind) if kind != self => {
                let hint = match kind {
                    Self::LaterArenaHard => {
                        "\nhint: only v0.1 is read, whose rows have question_id and turns"
                    }
                    _ => "",
                };
                let what = format!("the file holds {}, not {}{hint}", kind.name(), self.name());
                Err(EvalError::row(path, row, what))
            }
            _ => jsonl::row_as(path, row, value),
        }
    }

    /// A file of rows of this kind as `T`, with their line numbers.
    ///
    /// # Errors
    /// If it cannot be read, a row is of another kind, which is named, or does not fit `T`, or there is no row.
    pub fn rows<T: DeserializeOwned>(self, path: &Path) -> Result<Vec<(usize, T)>, EvalError> {
        let rows: Vec<_> = jsonl::read(path)?
            .into_iter()
            .map(|(row, value)| Ok((row, self.row(path, row, value)?)))
            .collect::<Result<_, EvalError>>()?;
        match rows.is_empty() {
            true => Err(EvalError::Input(format!("{}: holds no {}", path.display(), self.name()))),
            false => Ok(rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn other_kinds_are_refused_by_name() {
        let path = Path::new("q.jsonl");
        for (value, name) in [
            (json!({"uid": "1", "category": "x", "prompt": "p"}), "later Arena-Hard"),
            (json!({"uid": "1", "model": "m", "messages": []}), "later Arena-Hard"),
            (json!({"uid": "1", "games": []}), "later Arena-Hard"),
            (json!({"question_id": "0f", "turns": [{"content": "p"}]}), "Arena-Hard v0.1 questions"),
            (json!({"question_id": 1, "choices": [{"turns": ["a"]}]}), "MT-Bench answers"),
            (json!({"question_id": "1", "choices": [{"turns": [{"content": "a"}]}]}), "v0.1 answers"),
            (json!({"question_id": 1, "g1_winner": "tie"}), "pairwise"),
            (json!({"question_id": 1, "judgment": ""}), "ratings"),
            (json!({"question_id": "1", "games": []}), "v0.1 judgments"),
            (json!({"question_id": "1", "winner": "tie"}), "battles"),
            (json!({"name": "x", "prompt_template": ""}), "judge prompts"),
        ] {
            let error = Kind::MtBenchQuestion.row::<Value>(path, 3, value.clone()).unwrap_err().to_string();
            assert!(error.starts_with("q.jsonl:3: the file holds ") && error.contains(name), "{error}");
            assert!(error.contains("not MT-Bench questions"), "{error}");
        }
        assert!(Kind::MtBenchQuestion.row::<Value>(path, 3, json!({"turns": ["a"]})).is_ok());
        assert_eq!(Kind::of(&json!({"prompt": "p", "predict": "a", "label": "b"})), None);
    }
}
