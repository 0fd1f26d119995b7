//! Files of MT-Bench judgments, as FastChat writes and reads them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use super::{prompts::asked_with, rating::is_on_scale};
use crate::{EvalError, answer_file::FASTCHAT_ERROR, jsonl, judge::Status, judged::Meta, schema::Kind};

/// A rating of one turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SingleJudgment {
    /// The question.
    pub question_id: i64,
    /// Whose answer.
    pub model: String,
    /// The judge and the name of its prompt.
    pub judge: (String, String),
    /// What the judge was asked.
    pub user_prompt: String,
    /// What it said.
    pub judgment: String,
    /// The rating; −1 where there is none.
    pub score: Number,
    /// 1 or 2.
    pub turn: u8,
    /// When, in seconds.
    #[serde(default)]
    pub tstamp: f64,
    /// What we keep beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
    /// Further fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl SingleJudgment {
    /// The rating as a number.
    #[must_use]
    pub fn rating(&self) -> f64 {
        self.score.as_f64().unwrap_or(f64::NAN)
    }

    /// Whether the rating counts.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        is_on_scale(self.rating())
    }

    /// What tells its request from others about the same turn.
    pub(crate) fn asked_with(&self) -> AskedWith<'_> {
        asked_with(&self.judge.1, self.meta.as_ref(), &self.user_prompt)
    }

    /// What became of it, from what is recorded; files of other programs do not say.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.meta {
            _ if self.is_valid() => Status::Ok,
            _ if self.rating() != -1.0 => Status::OutOfRange,
            Some(meta) if meta.status != Status::Ok => meta.status,
            _ if self.judgment == FASTCHAT_ERROR => Status::ApiError,
            _ if self.judgment.trim().is_empty() => Status::Empty,
            _ => Status::Unparsable,
        }
    }
}

/// Name of the judge's prompt, its hash where that is known to be another than the official one, and the user's message.
pub(crate) type AskedWith<'a> = (&'a str, Option<&'a str>, &'a str);

/// Who won a game.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Winner {
    /// The first model.
    #[serde(rename = "model_1")]
    Model1,
    /// The second model.
    #[serde(rename = "model_2")]
    Model2,
    /// Neither.
    Tie,
    /// There was no verdict.
    Error,
}

/// Two games between two answers, the second with their places changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairJudgment {
    /// The question.
    pub question_id: i64,
    /// Shown as A in game 1.
    pub model_1: String,
    /// Shown as B in game 1.
    pub model_2: String,
    /// Who won game 1.
    pub g1_winner: Winner,
    /// Who won game 2.
    pub g2_winner: Winner,
    /// The judge and the name of its prompt.
    pub judge: (String, String),
    /// What the judge was asked in game 1.
    pub g1_user_prompt: String,
    /// What it said.
    pub g1_judgment: String,
    /// What the judge was asked in game 2.
    pub g2_user_prompt: String,
    /// What it said.
    pub g2_judgment: String,
    /// 1 or 2.
    pub turn: u8,
    /// When, in seconds.
    #[serde(default)]
    pub tstamp: f64,
    /// What we keep beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
    /// Further fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl PairJudgment {
    /// Whether both games have a verdict.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.g1_winner != Winner::Error && self.g2_winner != Winner::Error
    }

    /// What tells its requests from others about the same two answers.
    pub(crate) fn asked_with(&self) -> AskedWith<'_> {
        asked_with(&self.judge.1, self.meta.as_ref(), &self.g1_user_prompt)
    }

    /// What became of it, from what is recorded.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.meta {
            _ if self.is_valid() => Status::Ok,
            Some(meta) if meta.status != Status::Ok => meta.status,
            _ if self.g1_judgment == FASTCHAT_ERROR || self.g2_judgment == FASTCHAT_ERROR => Status::ApiError,
            _ => Status::Unparsable,
        }
    }
}

/// A file of judgments of either kind, with the line of each.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgmentFile {
    /// Where it was read.
    pub path: PathBuf,
    /// Its ratings.
    pub single: Vec<(usize, SingleJudgment)>,
    /// Its pairwise judgments.
    pub pairs: Vec<(usize, PairJudgment)>,
}

impl JudgmentFile {
    /// Reads a file of ratings or pairwise judgments.
    ///
    /// # Errors
    /// If it cannot be read, is empty, holds something else, or a turn is neither 1 nor 2.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let mut file = Self { path: path.to_owned(), single: vec![], pairs: vec![] };
        for (row, value) in jsonl::read(path)? {
            let turn = match Kind::of(&value) {
                Some(Kind::PairJudgment) => {
                    let pair: PairJudgment = jsonl::row_as(path, row, value)?;
                    let turn = pair.turn;
                    file.pairs.push((row, pair));
                    turn
                }
                _ => {
                    let single: SingleJudgment = Kind::SingleJudgment.row(path, row, value)?;
                    let turn = single.turn;
                    file.single.push((row, single));
                    turn
                }
            };
            if !(1..=2).contains(&turn) {
                return Err(EvalError::row(path, row, format!("turn: {turn} is neither 1 nor 2")));
            }
        }
        match file.single.is_empty() && file.pairs.is_empty() {
            true => Err(EvalError::Input(format!("{}: holds no judgments", path.display()))),
            false => Ok(file),
        }
    }
}
