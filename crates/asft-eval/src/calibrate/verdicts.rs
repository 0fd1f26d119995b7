//! Verdicts of two judges on the same games, as −2 to 2 from the model's side.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::{conflict, nothing_in_common, same_prompt};
use crate::{
    EvalError,
    arena_hard::{Answers, ByPlace, Game, JudgmentFile, Label, unrepeated},
    judged::choose_judge,
    statistics::{Disagreement, kappa, spearman},
};

/// How verdicts agree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdicts {
    /// Games that both judges decided.
    pub games_compared: usize,
    /// Share of equal verdicts.
    pub exact_5way: f64,
    /// Share of verdicts for the same side, or none.
    pub same_sign: f64,
    /// Share of verdicts for opposite sides.
    pub opposite_sign: f64,
    /// Cohen's kappa on sides.
    pub kappa_3way: Option<f64>,
    /// Kappa with quadratic weights on the five verdicts.
    pub quadratic_kappa_5way: Option<f64>,
    /// Spearman's correlation.
    pub spearman: Option<f64>,
    /// The recorded judge alone.
    pub recorded: JudgeAlone,
    /// The substitute alone.
    pub substitute: JudgeAlone,
}

/// One judge's verdicts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JudgeAlone {
    /// Games with a verdict.
    pub games_ok: usize,
    /// Games without one.
    pub games_missing: usize,
    /// The score, in percent.
    pub win_rate: Option<f64>,
    /// Games that were no ties.
    pub decisive_games: usize,
    /// Share of them won by the answer shown first.
    pub first_shown_wins: Option<f64>,
    /// (first − second)/decisive.
    pub position_bias: Option<f64>,
    /// Questions with two verdicts.
    pub questions_with_both: usize,
    /// Share of them whose verdicts are for the same side.
    pub swap_same_sign: Option<f64>,
    /// Spearman's correlation of both games' verdicts with the difference in length; null where the answers are not
    /// given.
    pub length_spearman: Option<f64>,
}

/// Model, question and game.
type Key<'a> = (&'a str, &'a str, u8);

/// Compares two files of games; `answers` are those of the baseline and of the models.
///
/// # Errors
/// As for [`calibrate`](super::calibrate).
pub fn calibrate_verdicts(
    recorded: &JudgmentFile,
    substitute: &JudgmentFile,
    answers: &[Answers],
) -> Result<Verdicts, EvalError> {
    let (one, two) = (side(recorded)?, side(substitute)?);
    let games: HashMap<Key<'_>, &Game> = two.iter().copied().collect();
    let pairs: Vec<(i8, i8)> = one
        .iter()
        .filter_map(|(key, game)| {
            let other = games.get(key).filter(|other| same_prompt(&game.user_prompt, &other.user_prompt))?;
            Some((game.label()?.for_model(key.2), other.label()?.for_model(key.2)))
        })
        .collect();
    if pairs.is_empty() {
        return Err(nothing_in_common(&recorded.path, &substitute.path));
    }
    let share = |holds: fn(i8, i8) -> bool| {
        pairs.iter().filter(|(one, two)| holds(*one, *two)).count() as f64 / pairs.len() as f64
    };
    let levels = |level: fn(i8) -> i8| -> Vec<(usize, usize)> {
        pairs.iter().map(|(one, two)| (level(*one) as usize, level(*two) as usize)).collect()
    };
    let values: Vec<_> = pairs.iter().map(|(one, two)| (f64::from(*one), f64::from(*two))).collect();
    Ok(Verdicts {
        games_compared: pairs.len(),
        exact_5way: share(|one, two| one == two),
        same_sign: share(|one, two| one.signum() == two.signum()),
        opposite_sign: share(|one, two| one.signum() * two.signum() == -1),
        kappa_3way: kappa(&levels(|value| value.signum() + 1), 3, Disagreement::Nominal),
        quadratic_kappa_5way: kappa(&levels(|value| value + 2), 5, Disagreement::Quadratic),
        spearman: spearman(&values),
        recorded: alone(&one, answers),
        substitute: alone(&two, answers),
    })
}

/// One row for each game of a file.
fn side(file: &JudgmentFile) -> Result<Vec<(Key<'_>, &Game)>, EvalError> {
    let judges: BTreeSet<&str> = file.rows.iter().map(|(_, row)| file.judge(row)).collect();
    choose_judge(&judges, None)
        .map_err(|error| EvalError::Input(format!("{}: {error}", file.path.display())))?;
    let unrepeated = unrepeated(file.rows.iter().map(|(_, row)| row));
    match unrepeated.conflicts.first() {
        Some((model, ..)) => Err(conflict(&file.path, model, unrepeated.conflicts.len())),
        None => Ok(unrepeated.rows),
    }
}

fn alone(games: &[(Key<'_>, &Game)], answers: &[Answers]) -> JudgeAlone {
    let decided: Vec<(Key<'_>, Label)> =
        games.iter().filter_map(|(key, game)| Some((*key, game.label()?))).collect();
    let (mut points, mut weights) = (0.0, 0.0);
    let mut verdicts: BTreeMap<(&str, &str), Vec<i8>> = BTreeMap::new();
    for ((model, question, number), label) in &decided {
        points += f64::from(label.weight()) * label.points(*number);
        weights += f64::from(label.weight());
        verdicts.entry((model, question)).or_default().push(label.for_model(*number));
    }
    verdicts.retain(|_, values| values.len() == 2);
    let same = verdicts.values().filter(|values| values[0].signum() == values[1].signum()).count();
    let places = ByPlace::of(decided.iter().map(|(_, label)| *label));
    let in_tokens = answers.iter().all(|file| file.average_tokens().is_some());
    let lengths: Vec<_> = verdicts
        .iter()
        .filter_map(|((model, question), values)| {
            let lead = length_lead(answers, model, question, in_tokens)?;
            Some((f64::from(values.iter().sum::<i8>()), lead))
        })
        .collect();
    JudgeAlone {
        games_ok: decided.len(),
        games_missing: games.len() - decided.len(),
        win_rate: (weights > 0.0).then(|| 100.0 * points / weights),
        decisive_games: places.decisive(),
        first_shown_wins: places.first_share(),
        position_bias: places.bias(),
        questions_with_both: verdicts.len(),
        swap_same_sign: (!verdicts.is_empty()).then(|| same as f64 / verdicts.len() as f64),
        length_spearman: spearman(&lengths),
    }
}

/// (m − b)/(m + b + 1) of the lengths in tokens, or in characters where some answer's tokens are not known.
fn length_lead(answers: &[Answers], model: &str, question: &str, in_tokens: bool) -> Option<f64> {
    let (mine, others): (Vec<_>, Vec<_>) = answers.iter().partition(|file| file.id == model);
    let length = |files: &[&Answers]| {
        let turn = files.iter().find_map(|file| file.turn(&question.to_owned(), 0).ok())?;
        Some(if in_tokens { turn.token_len? as f64 } else { turn.content.chars().count() as f64 })
    };
    let (m, b) = (length(&mine)?, length(&others)?);
    Some((m - b) / (m + b + 1.0))
}
