//! What `asft eval mt-bench show` reports.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{EvalError, judge::Status};

/// Scores of all models under one judge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// What the reader must know before anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<&'static str>,
    /// What is to be said of the settings it was judged with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
    /// Who judged.
    pub judge: String,
    /// From the best to the worst; those without a score last.
    pub models: Vec<ModelSummary>,
    /// The comparisons that were asked for.
    pub compare: Vec<Compare>,
    /// Pairwise results, in the order of the files.
    pub pairs: Vec<PairSummary>,
}

/// The ratings of one model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSummary {
    /// Its id.
    pub model: String,
    /// Mean over first turns; null where rows of several runs are mixed.
    pub turn1: Option<f64>,
    /// Mean over second turns.
    pub turn2: Option<f64>,
    /// Mean over all.
    pub average: Option<f64>,
    /// Ratings that count.
    pub n: usize,
    /// Ratings there should be.
    pub expected: usize,
    /// Ratings by what became of them.
    pub statuses: BTreeMap<Status, usize>,
    /// Mean by category over both turns.
    pub by_category: BTreeMap<String, f64>,
    /// Standard error of the average, by question.
    pub se: Option<f64>,
    /// Its 95% interval.
    pub ci95: Option<[f64; 2]>,
    /// The same by drawing questions.
    pub bootstrap95: Option<[f64; 2]>,
    /// Judgments with several prompts under one id.
    pub conflicts: usize,
    /// Rows that others stand for.
    pub repeated_rows: usize,
    /// What FastChat prints, whatever answers are given.
    pub fastchat: FastChat,
    /// Questions behind the average; few make its interval doubtful.
    #[serde(skip)]
    pub questions: usize,
}

/// FastChat's means over every row but those of −1, repeated ones included.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FastChat {
    /// Mean over first turns.
    pub turn1: Option<f64>,
    /// Mean over second turns.
    pub turn2: Option<f64>,
    /// Mean over all rows.
    pub average: Option<f64>,
    /// The rows.
    pub rows: usize,
}

/// Two models on the questions they share.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compare {
    /// One model.
    pub a: String,
    /// The other.
    pub b: String,
    /// Questions that both have ratings of.
    pub questions: usize,
    /// Average of a less average of b over these; null where one has no score.
    pub mean: Option<f64>,
    /// Its standard error, by question.
    pub se: Option<f64>,
    /// Its 95% interval; the two are not distinguishable if it holds 0.
    pub ci95: Option<[f64; 2]>,
    /// The difference that would be found with a power of 80% at a level of 5%.
    pub smallest_detectable: Option<f64>,
}

/// The pairwise results of one model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairSummary {
    /// Its id.
    pub model: String,
    /// Pairs of games won.
    pub wins: usize,
    /// Pairs of games lost.
    pub losses: usize,
    /// The rest of those with two verdicts.
    pub ties: usize,
    /// (wins + ties/2)/n; null without a pair, and where rows of several runs are mixed.
    pub win_rate_adjusted: Option<f64>,
    /// Pairs of games by what became of them.
    pub statuses: BTreeMap<Status, usize>,
}

/// Judgments with different prompts under one id: two runs share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Whose.
    pub model: String,
    /// Each judgment, in words.
    pub keys: Vec<String>,
}

/// A summary, and what is wrong with its input.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The scores.
    pub summary: Summary,
    /// Why some of them are null.
    pub conflicts: Vec<Conflict>,
}

impl Shown {
    /// The error that conflicts amount to, after the summary was printed; FastChat's rule knows none.
    ///
    /// # Errors
    /// If there are conflicts, with their number and the first of each model.
    pub fn check(&self) -> Result<(), EvalError> {
        if self.conflicts.is_empty() {
            return Ok(());
        }
        let each = self.conflicts.iter().map(|Conflict { model, keys }| {
            let first = keys[..keys.len().min(3)].join("; ");
            format!("{model}: {} judgments have rows with different prompts, first {first}", keys.len())
        });
        Err(EvalError::Input(format!(
            "{}\nhint: two runs share an id, or one was judged in two ways; --answers with --prompts and \
             --references keeps the rows that these make, --compat fastchat takes them all",
            each.collect::<Vec<_>>().join("\n")
        )))
    }
}
