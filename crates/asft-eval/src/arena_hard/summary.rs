//! What `asft eval arena-hard show` reports.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::judge::Status;

/// Scores of all models against one baseline under one judge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// What the reader must know before anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<&'static str>,
    /// What is to be said of the settings it was judged with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
    /// Whom all models played against.
    pub baseline: String,
    /// Who judged; null for a file of battles, which does not say.
    pub judge: Option<String>,
    /// From the best to the worst; those without a score last.
    pub models: Vec<ModelSummary>,
}

/// The games of one model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSummary {
    /// Its id.
    pub model: String,
    /// Percentage of points won; null where no game counts.
    pub score: Option<f64>,
    /// The same to two decimals.
    pub score_2dp: Option<f64>,
    /// Rows that the games count as.
    pub weight_total: u32,
    /// Games recorded; null for battles.
    pub games: Option<usize>,
    /// Games without one of the five labels, which are left out; null for battles.
    pub games_dropped: Option<usize>,
    /// Games by what became of them.
    pub statuses: BTreeMap<Status, usize>,
    /// The interval of v0.1, which is too narrow.
    pub ci95_v01: Option<[f64; 2]>,
    /// The 95% interval by question.
    pub ci95_question: Option<[f64; 2]>,
    /// Standard error by question.
    pub se_question: Option<f64>,
    /// Mean length of the answers in tokens; null where they are not given.
    pub avg_tokens: Option<u64>,
    /// (first − second)/decisive, of the answers shown first and second; null without a decisive game.
    pub position_bias: Option<f64>,
    /// The score with style taken out as v0.1 does; null where it is not asked for.
    pub style_control: Option<StyledScore>,
    /// The score of answers of equal style, which is our own addition.
    pub equal_style: Option<StyledScore>,
    /// Questions behind the score; few make its interval doubtful.
    #[serde(skip)]
    pub questions: usize,
}

/// A score from a fit with style.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StyledScore {
    /// In percent.
    pub score: f64,
    /// From the draws of v0.1.
    pub ci95: Option<[f64; 2]>,
    /// Weights of tokens, headers, lists and bold texts.
    pub coef: [f64; 4],
}
