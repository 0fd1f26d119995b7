//! Ratings of two judges on the same turns.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use serde::Serialize;

use super::{conflict, nothing_in_common, same_prompt};
use crate::{
    EvalError,
    judged::choose_judge,
    mt_bench::{JudgmentFile, Questions, SingleJudgment},
    repeats::{Keyed, last_valid},
    statistics::{Disagreement, kappa, kendall_tau_b, least_squares, pearson, spearman},
};

/// How ratings agree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratings {
    /// Turns that the recorded file judges.
    pub keys_recorded: usize,
    /// Turns that the substitute judges.
    pub keys_substitute: usize,
    /// Turns that only the recorded file rates.
    pub only_recorded_valid: usize,
    /// Turns that only the substitute rates.
    pub only_substitute_valid: usize,
    /// Over all turns that both rate.
    pub all: RatingAgreement,
    /// By turn.
    pub by_turn: BTreeMap<u8, Bias>,
    /// By category; empty where the questions are not given.
    pub by_category: BTreeMap<String, Bias>,
    /// By model.
    pub by_model: BTreeMap<String, MeanPair>,
}

/// Agreement over some turns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RatingAgreement {
    /// Turns.
    pub n: usize,
    /// Mean of the recorded ratings.
    pub mean_recorded: f64,
    /// Mean of the substitute's.
    pub mean_substitute: f64,
    /// Mean of substitute less recorded.
    pub bias: f64,
    /// Mean absolute difference.
    pub mae: f64,
    /// Root of the mean squared difference.
    pub rmse: f64,
    /// Share of equal ratings.
    pub exact: f64,
    /// Share of ratings that differ by at most 1.
    pub within_1: f64,
    /// Pearson's correlation.
    pub pearson: Option<f64>,
    /// Spearman's correlation.
    pub spearman: Option<f64>,
    /// Kendall's tau-b.
    pub kendall_tau_b: Option<f64>,
    /// Kappa with quadratic weights over the levels 1 to 10.
    pub quadratic_kappa: Option<f64>,
    /// The line that gives recorded ratings from the substitute's; shown, and never applied to a score.
    pub recorded_from_substitute: Option<Line>,
}

/// slope·x + intercept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Its slope.
    pub slope: f64,
    /// Its value at 0.
    pub intercept: f64,
}

/// Substitute less recorded over some turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bias {
    /// Turns.
    pub n: usize,
    /// The mean difference.
    pub bias: f64,
}

/// Means of both judges over some turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeanPair {
    /// Turns.
    pub n: usize,
    /// Mean of the recorded ratings.
    pub recorded: f64,
    /// Mean of the substitute's.
    pub substitute: f64,
}

type Key<'a> = (&'a str, i64, u8);

/// Compares two files of ratings.
///
/// # Errors
/// As for [`calibrate`](super::calibrate).
pub fn calibrate_ratings(
    recorded: &JudgmentFile,
    substitute: &JudgmentFile,
    questions: Option<&Questions>,
) -> Result<Ratings, EvalError> {
    let (one, two) = (side(recorded)?, side(substitute)?);
    let ratings: HashMap<Key<'_>, &SingleJudgment> = two.iter().copied().collect();
    let mut joined: Vec<(&SingleJudgment, (f64, f64))> = vec![];
    let mut only_recorded_valid = 0;
    for (key, row) in one.iter().filter(|(_, row)| row.is_valid()) {
        match ratings.get(key) {
            Some(other) if other.is_valid() && same_prompt(&row.user_prompt, &other.user_prompt) => {
                joined.push((row, (row.rating(), other.rating())));
            }
            _ => only_recorded_valid += 1,
        }
    }
    let substitute_valid = two.iter().filter(|(_, row)| row.is_valid()).count();
    let pairs: Vec<_> = joined.iter().map(|(_, pair)| *pair).collect();
    let all = agreement(&pairs).ok_or_else(|| nothing_in_common(&recorded.path, &substitute.path))?;

    let mut by_category: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    if let Some(questions) = questions {
        for (row, pair) in &joined {
            let id = row.question_id;
            let question = questions.get(id).ok_or_else(|| unknown_question(&recorded.path, id))?;
            by_category.entry(question.category.clone()).or_default().push(*pair);
        }
    }
    Ok(Ratings {
        keys_recorded: one.len(),
        keys_substitute: two.len(),
        only_recorded_valid,
        only_substitute_valid: substitute_valid - joined.len(),
        all,
        by_turn: groups(joined.iter().map(|(row, pair)| (row.turn, *pair)), bias),
        by_category: by_category.into_iter().map(|(category, pairs)| (category, bias(&pairs))).collect(),
        by_model: groups(joined.iter().map(|(row, pair)| (row.model.clone(), *pair)), mean_pair),
    })
}

fn unknown_question(path: &Path, id: i64) -> EvalError {
    EvalError::Input(format!(
        "{}: question {id} is not among the questions\nhint: give the question file that was judged",
        path.display()
    ))
}

/// One row for each turn of a file.
fn side(file: &JudgmentFile) -> Result<Vec<(Key<'_>, &SingleJudgment)>, EvalError> {
    let judges: BTreeSet<&str> = file.single.iter().map(|(_, row)| row.judge.0.as_str()).collect();
    choose_judge(&judges, None)
        .map_err(|error| EvalError::Input(format!("{}: {error}", file.path.display())))?;
    let unrepeated = last_valid(file.single.iter().map(|(_, row)| Keyed {
        key: (row.model.as_str(), row.question_id, row.turn),
        prompt: row.asked_with(),
        valid: row.is_valid(),
        row,
    }));
    match unrepeated.conflicts.first() {
        Some((model, ..)) => Err(conflict(&file.path, model, unrepeated.conflicts.len())),
        None => Ok(unrepeated.rows),
    }
}

fn groups<K: Ord, T>(
    pairs: impl Iterator<Item = (K, (f64, f64))>,
    summary: impl Fn(&[(f64, f64)]) -> T,
) -> BTreeMap<K, T> {
    let mut groups: BTreeMap<K, Vec<(f64, f64)>> = BTreeMap::new();
    pairs.for_each(|(key, pair)| groups.entry(key).or_default().push(pair));
    groups.into_iter().map(|(key, pairs)| (key, summary(&pairs))).collect()
}

fn mean(pairs: &[(f64, f64)], value: impl Fn(f64, f64) -> f64) -> f64 {
    pairs.iter().map(|(recorded, substitute)| value(*recorded, *substitute)).sum::<f64>() / pairs.len() as f64
}

fn bias(pairs: &[(f64, f64)]) -> Bias {
    Bias { n: pairs.len(), bias: mean(pairs, |recorded, substitute| substitute - recorded) }
}

fn mean_pair(pairs: &[(f64, f64)]) -> MeanPair {
    MeanPair {
        n: pairs.len(),
        recorded: mean(pairs, |recorded, _| recorded),
        substitute: mean(pairs, |_, substitute| substitute),
    }
}

/// `None` without pairs.
fn agreement(pairs: &[(f64, f64)]) -> Option<RatingAgreement> {
    if pairs.is_empty() {
        return None;
    }
    let share = |holds: fn(f64) -> bool| {
        mean(pairs, |recorded, substitute| f64::from(holds((substitute - recorded).abs())))
    };
    let level = |rating: f64| (rating + 0.5).floor().clamp(1.0, 10.0) as usize - 1;
    let levels: Vec<_> =
        pairs.iter().map(|(recorded, substitute)| (level(*recorded), level(*substitute))).collect();
    let from_substitute: Vec<_> =
        pairs.iter().map(|(recorded, substitute)| (*substitute, *recorded)).collect();
    Some(RatingAgreement {
        n: pairs.len(),
        mean_recorded: mean(pairs, |recorded, _| recorded),
        mean_substitute: mean(pairs, |_, substitute| substitute),
        bias: bias(pairs).bias,
        mae: mean(pairs, |recorded, substitute| (substitute - recorded).abs()),
        rmse: mean(pairs, |recorded, substitute| (substitute - recorded).powi(2)).sqrt(),
        exact: share(|difference| difference == 0.0),
        within_1: share(|difference| difference <= 1.0),
        pearson: pearson(pairs),
        spearman: spearman(pairs),
        kendall_tau_b: kendall_tau_b(pairs),
        quadratic_kappa: kappa(&levels, 10, Disagreement::Quadratic),
        recorded_from_substitute: least_squares(&from_substitute)
            .map(|(slope, intercept)| Line { slope, intercept }),
    })
}
