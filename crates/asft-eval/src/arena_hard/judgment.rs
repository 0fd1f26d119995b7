//! Files of Arena-Hard judgments, as v0.1 writes and reads them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    config,
    verdict::{Label, Verdict, VerdictPattern},
};
use crate::{
    EvalError,
    judge::Status,
    judged::Meta,
    repeats::{Keyed, Unrepeated, last_valid},
    schema::Kind,
};

/// Both games on a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgment {
    /// The question.
    pub question_id: String,
    /// Whose answer.
    pub model: String,
    /// Who judged; where the file does not say, the folder's name does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<String>,
    /// Game 1, with the baseline as A, and game 2.
    pub games: [Game; 2],
    /// Further fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A game.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Game {
    /// What the judge was asked.
    pub user_prompt: String,
    /// What it said: its replies, each after a line end.
    pub judgment: String,
    /// The label, or null.
    pub score: Option<String>,
    /// What we keep beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
    /// Further fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Game {
    /// The verdict, if it is one of the five labels.
    #[must_use]
    pub fn label(&self) -> Option<Label> {
        self.score.as_deref().and_then(Label::parse)
    }

    /// What tells its request from others about the same answers: the hash of the judge's prompt where that is known to be
    /// another than the official one, and the user's message.
    fn asked_with(&self) -> (Option<&str>, &str) {
        let template = self.meta.as_ref().and_then(|meta| meta.template_sha256.as_deref());
        (template.filter(|template| !config::is_official(template)), &self.user_prompt)
    }

    /// What became of it, from what is recorded; files of other programs do not say.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.meta {
            _ if self.label().is_some() => Status::Ok,
            Some(meta) if meta.status != Status::Ok => meta.status,
            _ if self.judgment.trim() == "$ERROR$" => Status::ApiError,
            _ if self.judgment.trim().is_empty() => Status::Empty,
            _ if VerdictPattern::default().read(&self.judgment) == Verdict::Several => Status::Contradictory,
            _ => Status::Unparsable,
        }
    }
}

/// A file of judgments, with the line of each.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgmentFile {
    /// Where it was read.
    pub path: PathBuf,
    /// Its rows.
    pub rows: Vec<(usize, Judgment)>,
}

impl JudgmentFile {
    /// Reads a file of judgments.
    ///
    /// # Errors
    /// If it cannot be read, is empty, holds something else, or a row has not two games.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        Ok(Self { path: path.to_owned(), rows: Kind::ArenaHardJudgment.rows(path)? })
    }

    /// Who judged a row.
    pub(crate) fn judge<'a>(&'a self, judgment: &'a Judgment) -> &'a str {
        let folder = || self.path.parent()?.file_name()?.to_str();
        judgment.judge.as_deref().or_else(folder).unwrap_or("unknown")
    }
}

/// One row for each game, by model, question and number.
pub(crate) fn unrepeated<'a>(
    judgments: impl IntoIterator<Item = &'a Judgment>,
) -> Unrepeated<(&'a str, &'a str, u8), &'a Game> {
    last_valid(judgments.into_iter().flat_map(|judgment| {
        [1, 2].into_iter().zip(&judgment.games).map(|(number, game)| Keyed {
            key: (judgment.model.as_str(), judgment.question_id.as_str(), number),
            prompt: game.asked_with(),
            valid: game.label().is_some(),
            row: game,
        })
    }))
}

/// Games that were asked about more than once, with a message of ours.
#[must_use]
pub fn retried(judgments: &[Judgment]) -> usize {
    let metas = judgments.iter().flat_map(|judgment| &judgment.games).filter_map(|game| game.meta.as_ref());
    metas.filter(|meta| meta.attempts > 1).count()
}
