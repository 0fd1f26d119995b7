//! MT-Bench scores of recorded ratings: the sound rule, and beside it FastChat's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    Compare, Conflict, FastChat, JudgmentFile, ModelSummary, NOT_OFFICIAL, Questions, Shown, SingleCall,
    SingleJudgment, Summary, pairs,
    prompts::{Mode, Prompts, may_be_official},
};
use crate::{
    EvalError,
    judge::Status,
    judged::settings,
    repeats::{Keyed, last_valid},
    statistics::ByQuestion,
};

/// What to show.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// The judge whose rows count; needed where there are several.
    pub judge: Option<&'a str>,
    /// Gives categories and the number of ratings there should be.
    pub questions: Option<&'a Questions>,
    /// The prompts that were judged with, to be checked for being official.
    pub prompts: Option<&'a Prompts>,
    /// The calls rebuilt from answers: of their models only the rows with these prompts count.
    pub calls: Option<&'a [SingleCall]>,
    /// Models to be compared.
    pub compare: &'a [(String, String)],
}

/// Scores the rows of all files.
///
/// # Errors
/// If rows of several judges are there and none is chosen, the chosen one has none, a row is of a question that is
/// not among the questions, no row of a model has the prompts of its answers, or two models to be compared have no
/// rated question in common. Conflicts are part of the result.
pub fn show(files: &[JudgmentFile], options: &Options<'_>) -> Result<Shown, EvalError> {
    let judge = the_judge(files, options.judge)?;
    check_questions(files, options.questions)?;
    let single = files.iter().flat_map(|file| file.single.iter().map(|(_, row)| row));
    let pair_rows = files.iter().flat_map(|file| file.pairs.iter().map(|(_, row)| row));
    let single: Vec<_> = single.filter(|row| row.judge.0 == judge).collect();
    let pair_rows: Vec<_> = pair_rows.filter(|row| row.judge.0 == judge).collect();

    let mut rows_of: BTreeMap<&str, Vec<&SingleJudgment>> = BTreeMap::new();
    single.iter().for_each(|row| rows_of.entry(&row.model).or_default().push(row));
    let fastchat: BTreeMap<&str, FastChat> =
        rows_of.iter().map(|(model, rows)| (*model, fastchat(rows))).collect();
    if let Some(calls) = options.calls {
        keep_rebuilt(&mut rows_of, calls)?;
    }
    let mut conflicts = vec![];
    let scored: BTreeMap<&str, Scored> = rows_of
        .into_iter()
        .map(|(model, rows)| {
            let scored = score(model, &rows, fastchat[model].clone(), options.questions);
            conflicts.extend(scored.conflict.clone());
            (model, scored)
        })
        .collect();
    let compare = compare(&scored, options.compare)?;
    let mut models: Vec<_> = scored.into_values().map(|scored| scored.summary).collect();
    models.sort_by(|one, two| two.average.unwrap_or(f64::MIN).total_cmp(&one.average.unwrap_or(f64::MIN)));
    let pairs = pairs::summaries(&pair_rows, &mut conflicts);
    let single_prompts = single.iter().map(|row| (&row.judge.1, &row.meta));
    let mut prompts = single_prompts.chain(pair_rows.iter().map(|row| (&row.judge.1, &row.meta)));
    let not_official = prompts.any(|(name, meta)| {
        !may_be_official(name, meta.as_ref().and_then(|meta| meta.template_sha256.as_deref()))
    }) || options.prompts.is_some_and(|prompts| {
        (!single.is_empty() && !prompts.is_official(Mode::Single))
            || (!pair_rows.is_empty() && !prompts.is_official(Mode::Pairwise))
    });
    let label = not_official.then_some(NOT_OFFICIAL);
    let settings = settings(single.iter().map(|row| &row.meta).chain(pair_rows.iter().map(|row| &row.meta)));
    Ok(Shown { summary: Summary { label, settings, judge, models, compare, pairs }, conflicts })
}

/// The judge whose rows count.
fn the_judge(files: &[JudgmentFile], chosen: Option<&str>) -> Result<String, EvalError> {
    let judges: BTreeSet<&str> = files
        .iter()
        .flat_map(|file| {
            let single = file.single.iter().map(|(_, row)| row.judge.0.as_str());
            single.chain(file.pairs.iter().map(|(_, row)| row.judge.0.as_str()))
        })
        .collect();
    crate::judged::choose_judge(&judges, chosen)
}

fn check_questions(files: &[JudgmentFile], questions: Option<&Questions>) -> Result<(), EvalError> {
    let Some(questions) = questions else { return Ok(()) };
    for file in files {
        let single = file.single.iter().map(|(row, judgment)| (*row, judgment.question_id, judgment.turn));
        let pairs = file.pairs.iter().map(|(row, judgment)| (*row, judgment.question_id, judgment.turn));
        for (row, id, turn) in single.chain(pairs) {
            let turns = questions.get(id).map(|question| question.turns.len());
            let what = match turns {
                None => format!("question_id: {id} is not among the questions"),
                Some(turns) if usize::from(turn) > turns => {
                    format!("turn: question {id} has {turns}, and no turn {turn}")
                }
                Some(_) => continue,
            };
            let what = format!("{what}\nhint: give the question file that was judged");
            return Err(EvalError::row(&file.path, row, what));
        }
    }
    Ok(())
}

/// Keeps of the models with calls the rows whose prompts are those of the calls.
fn keep_rebuilt(
    rows_of: &mut BTreeMap<&str, Vec<&SingleJudgment>>,
    calls: &[SingleCall],
) -> Result<(), EvalError> {
    let rebuilt: HashMap<(&str, i64, u8), &SingleCall> =
        calls.iter().map(|call| ((call.model.as_str(), call.question_id, call.turn), call)).collect();
    let models: BTreeSet<&str> = calls.iter().map(|call| call.model.as_str()).collect();
    for model in models {
        let rows = rows_of.get_mut(model).ok_or_else(|| {
            EvalError::Input(format!(
                "there are answers of {model}, but no judgments\nhint: a model's id is the name of its answer file"
            ))
        })?;
        let all = rows.len();
        rows.retain(|row| {
            rebuilt.get(&(model, row.question_id, row.turn)).is_some_and(|call| call.made(row))
        });
        if !rows.is_empty() && rows.len() < all {
            tracing::warn!(
                "{} of {all} judgments of {model} have other prompts than these answers, prompts and references make, and do not count",
                all - rows.len()
            );
        }
        if rows.is_empty() {
            return Err(EvalError::Input(format!(
                "none of the {all} judgments of {model} has a prompt that these answers make\nhint: give the answers, \
                 prompts and references that were judged"
            )));
        }
    }
    Ok(())
}

/// A model's summary, and what comparisons need of it.
struct Scored {
    summary: ModelSummary,
    by_question: Option<ByQuestion<i64>>,
    conflict: Option<Conflict>,
}

fn score(model: &str, rows: &[&SingleJudgment], fastchat: FastChat, questions: Option<&Questions>) -> Scored {
    let unrepeated = last_valid(rows.iter().map(|row| Keyed {
        key: (row.question_id, row.turn),
        prompt: row.asked_with(),
        valid: row.is_valid(),
        row: *row,
    }));
    let kept: Vec<_> = unrepeated.rows.iter().map(|(_, row)| *row).collect();
    let conflict = (!unrepeated.conflicts.is_empty()).then(|| Conflict {
        model: model.to_owned(),
        keys: (unrepeated.conflicts.iter())
            .map(|key| {
                let rows = unrepeated.rows.iter().filter(|(of, _)| of == key);
                let prompts: BTreeSet<&str> = rows.map(|(_, row)| row.judge.1.as_str()).collect();
                let prompts = prompts.into_iter().collect::<Vec<_>>().join(", ");
                format!("question {} turn {} ({prompts})", key.0, key.1)
            })
            .collect(),
    });

    let judged: HashSet<(i64, u8)> = kept.iter().map(|row| (row.question_id, row.turn)).collect();
    let expected = questions.map_or(judged.len(), Questions::expected);
    let mut statuses = BTreeMap::new();
    kept.iter().for_each(|row| *statuses.entry(row.status()).or_default() += 1);
    if expected > judged.len() {
        *statuses.entry(Status::Missing).or_default() += expected - judged.len();
    }

    let counted: Vec<_> = match conflict {
        Some(_) => vec![],
        None => kept.into_iter().filter(|row| row.is_valid()).collect(),
    };
    let mut by_question = ByQuestion::new();
    counted.iter().for_each(|row| by_question.add(row.question_id, row.rating(), 1.0));
    let mut categories: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in &counted {
        if let Some(question) = questions.and_then(|questions| questions.get(row.question_id)) {
            categories.entry(question.category.clone()).or_default().push(row.rating());
        }
    }
    let summary = ModelSummary {
        model: model.to_owned(),
        turn1: turn_mean(&counted, 1),
        turn2: turn_mean(&counted, 2),
        average: mean(counted.iter().map(|row| row.rating())),
        n: counted.len(),
        expected,
        statuses,
        by_category: (categories.into_iter())
            .filter_map(|(category, ratings)| Some((category, mean(ratings)?)))
            .collect(),
        se: by_question.standard_error(),
        ci95: by_question.interval(1.0..=10.0),
        bootstrap95: by_question.bootstrap(),
        conflicts: unrepeated.conflicts.len(),
        repeated_rows: unrepeated.repeated,
        fastchat,
        questions: by_question.questions(),
    };
    Scored { summary, by_question: conflict.is_none().then_some(by_question), conflict }
}

/// Every row but those of −1, whatever else is known of it.
fn fastchat(rows: &[&SingleJudgment]) -> FastChat {
    let rows: Vec<_> = rows.iter().copied().filter(|row| row.rating() != -1.0).collect();
    FastChat {
        turn1: turn_mean(&rows, 1),
        turn2: turn_mean(&rows, 2),
        average: mean(rows.iter().map(|row| row.rating())),
        rows: rows.len(),
    }
}

fn turn_mean(rows: &[&SingleJudgment], turn: u8) -> Option<f64> {
    mean(rows.iter().filter(|row| row.turn == turn).map(|row| row.rating()))
}

fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.into_iter().collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn compare(scored: &BTreeMap<&str, Scored>, wanted: &[(String, String)]) -> Result<Vec<Compare>, EvalError> {
    let of = |model: &str| {
        scored.get(model).ok_or_else(|| {
            let known: Vec<_> = scored.keys().copied().collect();
            EvalError::Input(format!("{model}: has no ratings\nhint: there are {}", known.join(", ")))
        })
    };
    wanted
        .iter()
        .map(|(a, b)| {
            let (one, two) = (&of(a)?.by_question, &of(b)?.by_question);
            let paired = match one.as_ref().zip(two.as_ref()) {
                // Rows of several runs are mixed, which is told elsewhere.
                None => None,
                Some((one, two)) => Some(one.paired(two).ok_or_else(|| {
                    EvalError::Input(format!(
                        "--compare {a},{b}: no question has ratings of both\nhint: have the same questions judged"
                    ))
                })?),
            };
            Ok(Compare {
                a: a.clone(),
                b: b.clone(),
                questions: paired.map_or(0, |paired| paired.questions),
                mean: paired.map(|paired| paired.mean),
                se: paired.and_then(|paired| paired.se),
                ci95: paired.and_then(|paired| paired.ci95),
                smallest_detectable: paired.and_then(|paired| paired.smallest_detectable),
            })
        })
        .collect()
}
