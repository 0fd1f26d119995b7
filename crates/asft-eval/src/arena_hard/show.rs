//! Arena-Hard scores of recorded games.
//!
//! The share of points is the Bradley–Terry estimate that v0.1 fits, for every battle is against the baseline.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Answers, BattleFile, Game, JudgmentFile, Label, ModelSummary, NOT_OFFICIAL, Questions, Summary, baseline,
    battle::Outcome, bootstrap, config, judgment::unrepeated, style_control, style_control::Scaling,
    verdict::ByPlace,
};
use crate::{
    EvalError,
    judge::Status,
    judged::{choose_judge, settings},
    statistics::ByQuestion,
};

/// What to show.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Whom all models played against.
    pub baseline: &'a str,
    /// The judge whose rows count; needed where there are several.
    pub judge: Option<&'a str>,
    /// Answers of the models and of the baseline, for lengths, style, and the check of the baseline.
    pub answers: &'a [Answers],
    /// Gives the number of games there should be.
    pub questions: Option<&'a Questions>,
    /// Whether style is taken out too.
    pub style_control: bool,
}

/// The games of a model beside those that count.
#[derive(Default)]
struct Tally {
    statuses: BTreeMap<Status, usize>,
    labels: Vec<Label>,
}

/// Scores the rows of all files, in their order.
///
/// # Errors
/// If rows of several judges are there and none is chosen, the chosen one has none, games with different prompts
/// stand under one id, a file was judged against another baseline, answers are given of a model without judgments,
/// or style control lacks answers.
pub fn show(files: &[JudgmentFile], options: &Options<'_>) -> Result<Summary, EvalError> {
    let all =
        files.iter().flat_map(|file| file.rows.iter().map(move |(row, judgment)| (file, *row, judgment)));
    let judges: BTreeSet<&str> = all.clone().map(|(file, _, judgment)| file.judge(judgment)).collect();
    let judge = choose_judge(&judges, options.judge)?;
    let rows: Vec<_> = all.filter(|(file, _, judgment)| file.judge(judgment) == judge).collect();
    if let Some((file, row, judgment)) =
        rows.iter().find(|(_, _, judgment)| judgment.model == options.baseline)
    {
        let what = format!("model: {} is the baseline itself\nhint: --baseline", judgment.model);
        return Err(EvalError::row(&file.path, *row, what));
    }
    if let Some(answers) = options.answers.iter().find(|answers| answers.id == options.baseline) {
        files.iter().try_for_each(|file| baseline::check(file, answers))?;
    }

    let unrepeated = unrepeated(rows.iter().map(|(_, _, judgment)| *judgment));
    if let Some((model, question, number)) = unrepeated.conflicts.first() {
        return Err(EvalError::Input(format!(
            "{} games have rows with different prompts, first question {question} game {number} of {model}\nhint: two \
             runs share an id; show their files one at a time",
            unrepeated.conflicts.len()
        )));
    }
    let (mut outcomes, mut tallies) = (vec![], BTreeMap::<&str, Tally>::new());
    for ((model, question, number), game) in &unrepeated.rows {
        let tally = tallies.entry(model).or_default();
        *tally.statuses.entry(game.status()).or_default() += 1;
        let Some(label) = game.label() else { continue };
        tally.labels.push(label);
        outcomes.push(Outcome {
            question: (*question).to_owned(),
            model: (*model).to_owned(),
            points: label.points(*number),
            weight: label.weight(),
        });
    }
    let label =
        rows.iter().any(|(_, _, judgment)| judgment.games.iter().any(is_unofficial)).then_some(NOT_OFFICIAL);
    let settings = settings(rows.iter().flat_map(|row| row.2.games.iter().map(|game| &game.meta)));
    let mut models = models(&outcomes, &tallies, options)?;
    if let Some(questions) = options.questions {
        let known: BTreeSet<&str> = questions.rows.iter().map(|row| row.question_id.as_str()).collect();
        if let Some((file, row, judgment)) =
            rows.iter().find(|(_, _, judgment)| !known.contains(judgment.question_id.as_str()))
        {
            let what = format!(
                "question_id: {} is not among the questions\nhint: give the question file that was judged",
                judgment.question_id
            );
            return Err(EvalError::row(&file.path, *row, what));
        }
        for model in &mut models {
            let missing = (2 * questions.rows.len()).saturating_sub(model.statuses.values().sum());
            if missing > 0 {
                model.statuses.insert(Status::Missing, missing);
            }
        }
    }
    Ok(Summary { label, settings, baseline: options.baseline.to_owned(), judge: Some(judge), models })
}

/// Scores a file of battles.
///
/// # Errors
/// If a battle is against another baseline, answers are given of a model without battles, or style control lacks
/// answers.
pub fn show_battles(file: &BattleFile, options: &Options<'_>) -> Result<Summary, EvalError> {
    let outcomes = file.outcomes(options.baseline)?;
    let models = models(&outcomes, &BTreeMap::new(), options)?;
    let baseline = options.baseline.to_owned();
    Ok(Summary { label: None, settings: None, baseline, judge: None, models })
}

/// Whether a game was certainly had with other prompts; where it has no hash, only our own can be told.
fn is_unofficial(game: &Game) -> bool {
    match game.meta.as_ref().and_then(|meta| meta.template_sha256.as_deref()) {
        Some(template) => !config::is_official(template),
        None => game.user_prompt.starts_with(config::OWN_BEGINNING),
    }
}

fn models(
    outcomes: &[Outcome],
    tallies: &BTreeMap<&str, Tally>,
    options: &Options<'_>,
) -> Result<Vec<ModelSummary>, EvalError> {
    let names: BTreeSet<&str> =
        outcomes.iter().map(|outcome| outcome.model.as_str()).chain(tallies.keys().copied()).collect();
    if let Some(stranger) =
        options.answers.iter().find(|file| file.id != options.baseline && !names.contains(file.id.as_str()))
    {
        return Err(EvalError::Input(format!(
            "there are answers of {}, but no judgments\nhint: a model's id is the name of its answer file",
            stranger.id
        )));
    }
    let rounds = bootstrap::rounds(outcomes);
    let intervals = bootstrap::intervals(outcomes, &rounds);
    let (mut controlled, mut equal) = (BTreeMap::new(), BTreeMap::new());
    if options.style_control {
        let baseline = options.answers.iter().find(|file| file.id == options.baseline).ok_or_else(|| {
            EvalError::Input(format!(
                "style control needs the answers of {}, and they are not given\nhint: --answers",
                options.baseline
            ))
        })?;
        let differences = style_control::differences(outcomes, baseline, options.answers)?;
        controlled = style_control::scores(outcomes, &differences, &rounds, Scaling::Centred);
        equal = style_control::scores(outcomes, &differences, &rounds, Scaling::Uncentred);
    }
    let mut models: Vec<_> = names
        .into_iter()
        .map(|model| {
            let mut by_question = ByQuestion::new();
            let mine = || outcomes.iter().filter(|outcome| outcome.model == model);
            mine().for_each(|outcome| {
                by_question.add(&outcome.question, 100.0 * outcome.points, f64::from(outcome.weight));
            });
            let score = by_question.mean();
            let tally = tallies.get(model);
            let games = tally.map(|tally| tally.statuses.values().sum());
            ModelSummary {
                model: model.to_owned(),
                score,
                score_2dp: score.map(two_decimals),
                weight_total: mine().map(|outcome| outcome.weight).sum(),
                games,
                games_dropped: games.zip(tally).map(|(games, tally): (usize, _)| games - tally.labels.len()),
                statuses: tally.map(|tally| tally.statuses.clone()).unwrap_or_default(),
                ci95_v01: intervals.get(model).copied(),
                ci95_question: by_question.interval(0.0..=100.0),
                se_question: by_question.standard_error(),
                avg_tokens: (options.answers.iter())
                    .find(|answers| answers.id == model)
                    .and_then(Answers::average_tokens),
                position_bias: tally.and_then(|tally| ByPlace::of(tally.labels.iter().copied()).bias()),
                style_control: controlled.remove(model),
                equal_style: equal.remove(model),
                questions: by_question.questions(),
            }
        })
        .collect();
    models.sort_by(|one, two| two.score.unwrap_or(-1.0).total_cmp(&one.score.unwrap_or(-1.0)));
    Ok(models)
}

/// The decimal number of two places that is nearest to the double.
pub(super) fn two_decimals(value: f64) -> f64 {
    format!("{value:.2}").parse().expect("a number")
}
