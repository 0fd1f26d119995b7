//! A substitute judge measured against recorded verdicts on the same answers, before its scores are believed
//! (EVALUATION §7).

mod ratings;
mod verdicts;

use std::path::Path;

use serde::Serialize;

use crate::{EvalError, arena_hard, jsonl, mt_bench, schema::Kind};

pub use ratings::{Bias, Line, MeanPair, RatingAgreement, Ratings, calibrate_ratings};
pub use verdicts::{JudgeAlone, Verdicts, calibrate_verdicts};

/// A judge that was compared on fewer items is called uncalibrated.
pub const ENOUGH_ITEMS: usize = 100;

/// How a substitute judge agrees with a recorded one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Calibration {
    /// On ratings of MT-Bench.
    Ratings(Box<Ratings>),
    /// On games of Arena-Hard.
    Verdicts(Box<Verdicts>),
}

impl Calibration {
    /// Items that were compared.
    #[must_use]
    pub fn items(&self) -> usize {
        match self {
            Self::Ratings(ratings) => ratings.all.n,
            Self::Verdicts(verdicts) => verdicts.games_compared,
        }
    }
}

/// Compares two files of judgments of one kind. `questions` gives the categories of ratings, `answers` (those of the
/// baseline and of the models) the lengths behind verdicts.
///
/// # Errors
/// If the files hold different kinds of judgments or kinds that are not calibrated, one of them holds rows of several
/// judges or of several runs under one id, a question is unknown, or no item has a verdict on both sides.
pub fn calibrate(
    recorded: &Path,
    substitute: &Path,
    questions: Option<&mt_bench::Questions>,
    answers: &[arena_hard::Answers],
) -> Result<Calibration, EvalError> {
    let (one, two) = (kind(recorded)?, kind(substitute)?);
    if one != two {
        return Err(EvalError::Input(format!(
            "{} holds {}, and {} holds {}\nhint: both must judge the same answers in the same way",
            recorded.display(),
            one.name(),
            substitute.display(),
            two.name()
        )));
    }
    match one {
        Kind::SingleJudgment => {
            let (one, two) =
                (mt_bench::JudgmentFile::read(recorded)?, mt_bench::JudgmentFile::read(substitute)?);
            Ok(Calibration::Ratings(Box::new(calibrate_ratings(&one, &two, questions)?)))
        }
        Kind::ArenaHardJudgment => {
            let (one, two) =
                (arena_hard::JudgmentFile::read(recorded)?, arena_hard::JudgmentFile::read(substitute)?);
            Ok(Calibration::Verdicts(Box::new(calibrate_verdicts(&one, &two, answers)?)))
        }
        other => Err(EvalError::Input(format!(
            "{}: holds {}, which are not calibrated\nhint: give ratings of MT-Bench or games of Arena-Hard",
            recorded.display(),
            other.name()
        ))),
    }
}

fn kind(path: &Path) -> Result<Kind, EvalError> {
    let first = jsonl::read(path)?.into_iter().next();
    first.and_then(|(_, row)| Kind::of(&row)).ok_or_else(|| {
        EvalError::Input(format!("{}: holds no judgments that are known here", path.display()))
    })
}

/// Whether two prompts are of the same judgment: an empty one is not known.
fn same_prompt(one: &str, two: &str) -> bool {
    one.is_empty() || two.is_empty() || one == two
}

/// The error for keys with several prompts on one side.
fn conflict(path: &Path, model: &str, keys: usize) -> EvalError {
    EvalError::Input(format!(
        "{}: {keys} judgments have rows with different prompts, the first of {model}: two runs share an id\nhint: give \
         a file of one run",
        path.display()
    ))
}

fn nothing_in_common(one: &Path, two: &Path) -> EvalError {
    EvalError::Input(format!(
        "no judgment has a verdict in both {} and {}\nhint: both must judge the same answers, under the same ids",
        one.display(),
        two.display()
    ))
}
