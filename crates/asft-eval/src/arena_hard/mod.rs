//! Arena-Hard v0.1: answers play two games each against a baseline's (EVALUATION §5).
//!
//! [`games`] makes what a judge is asked, [`rows`] the files of its verdicts, [`show`] the scores, and [`import`]
//! entries for a cache from recorded files. Later versions changed files and statistics and are refused.

mod answer;
mod baseline;
mod battle;
mod bootstrap;
mod config;
mod csv;
mod game;
mod import;
mod judgment;
mod logistic;
mod question;
mod show;
mod style;
mod style_control;
mod summary;
mod verdict;

use serde_json::json;

use crate::judge::Params;

pub use answer::{Answers, Turn, read_answers};
pub use battle::BattleFile;
pub use config::{JudgeConfig, NOT_OFFICIAL, RETRY_MESSAGE};
pub use csv::csv;
pub use game::{ArenaGame, games, rows};
pub use import::import;
pub(crate) use judgment::unrepeated;
pub use judgment::{Game, Judgment, JudgmentFile, retried};
pub use question::{Question, Questions};
pub use show::{Options, show, show_battles};
pub use style::{BoldCount, HeaderCount, ListCount, StyleCounts};
pub use summary::{ModelSummary, StyledScore, Summary};
pub(crate) use verdict::ByPlace;
pub use verdict::{Label, Verdict, VerdictPattern};

/// The baseline of v0.1.
pub const BASELINE: &str = "gpt-4-0314";

/// What is sent to the judge beside the messages.
#[must_use]
pub fn params() -> Params {
    Params::from([("temperature".to_owned(), json!(0)), ("max_tokens".to_owned(), json!(4096))])
}
