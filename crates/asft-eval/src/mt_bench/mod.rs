//! MT-Bench: two-turn questions, rated from 1 to 10 or played against a baseline (EVALUATION §4).
//!
//! [`single_calls`] and [`pair_games`] make what a judge is asked, [`single_rows`] and [`pair_rows`] the files of
//! its verdicts, [`show`] the scores, and [`import`] entries for a cache from recorded files.

mod import;
mod judgment;
mod own_prompts;
mod pair_game;
mod pairs;
mod prompts;
mod question;
mod rating;
mod show;
mod single_call;
mod summary;

use serde_json::json;

use crate::{EvalError, answer_file::AnswerFile, judge::Params};

pub use import::import;
pub use judgment::{JudgmentFile, PairJudgment, SingleJudgment, Winner};
pub use pair_game::{PairGame, pair_games, pair_rows};
pub use prompts::{Mode, NOT_OFFICIAL, Prompt, Prompts};
pub use question::{Question, Questions};
pub use rating::rating;
pub use show::{Options, show};
pub use single_call::{SingleCall, single_calls, single_rows};
pub use summary::{Compare, Conflict, FastChat, ModelSummary, PairSummary, Shown, Summary};

/// Answers, and reference answers, with a text for each turn.
pub type Answers = AnswerFile<i64, String>;

/// Reads answers or reference answers.
///
/// # Errors
/// If the file cannot be read or holds something else.
pub fn read_answers(path: &std::path::Path) -> Result<Answers, EvalError> {
    Answers::read(path, crate::schema::Kind::MtBenchAnswer)
}

/// What is sent to the judge beside the messages.
#[must_use]
pub fn params() -> Params {
    Params::from([("temperature".to_owned(), json!(0)), ("max_tokens".to_owned(), json!(2048))])
}

/// What is known against a set of reference answers, which is told by its file's name.
#[must_use]
pub fn doubts(references: &Answers) -> Option<&'static str> {
    (references.id == "gpt-4").then_some(
        "reference set gpt-4: reported wrong for at least one turn of questions 104, 105, 109, 111, 113, 114, 120, \
         122, 124, 125, 126, 128 and 130",
    )
}
