//! What both benchmarks' `answer` commands do alike.

use std::{
    collections::BTreeSet,
    fmt::Display,
    ops::ControlFlow,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use asft_eval::{
    Answer, AnswerSource, Query, StopReason,
    answer_file::{AnswerFile, AnswerRow, Choice, answer_id},
    derived_seed,
    schema::Kind,
};
use clap::Args;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, json};

use crate::{
    failure::Failure,
    generate::{LocalModel, ModelArguments},
    output::{check_writable, note},
    train::interruptible,
};

/// Which model answers which questions.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// The model's name in the file; the file's own name is what judgments go by.
    #[arg(long, value_name = "ID")]
    pub model_id: String,
    /// The benchmark's questions (JSON Lines).
    #[arg(long, value_name = "Q.jsonl")]
    pub questions: PathBuf,
    /// Where the answers go; questions that are answered there already are passed over.
    #[arg(long, value_name = "A.jsonl")]
    pub output: PathBuf,
    /// Seed of the draws; each answer draws on its own.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// A question as a benchmark asks it.
pub trait Asked {
    /// Names it.
    type Id: Ord + Clone + Display + Serialize + DeserializeOwned;
    /// How the benchmark writes an answer's turn.
    type Turn: Serialize + DeserializeOwned;
    /// Its name.
    fn id(&self) -> Self::Id;
    /// What the user says in each turn.
    fn turns(&self) -> Vec<&str>;
    /// How the answer of a turn (from 0) is drawn.
    fn sampling(&self, turn: usize) -> asft_eval::Sampling;
    /// An answer as the file has it.
    fn turn(text: String) -> Self::Turn;
}

/// Answers the questions, a few at a time, and writes the file after each few.
pub fn answer<Q: Asked>(arguments: &Arguments, kind: Kind, questions: &[Q]) -> Result<(), Failure> {
    let output = &arguments.output;
    check_writable(output, std::slice::from_ref(&arguments.questions))?;
    let mut file = match output.exists() {
        true => AnswerFile::<Q::Id, Q::Turn>::read(output, kind)?,
        false => {
            let id = output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            AnswerFile { id, path: output.clone(), rows: Default::default() }
        }
    };
    let known: BTreeSet<Q::Id> = questions.iter().map(Asked::id).collect();
    file.only_questions(|id| known.contains(id))?;
    if let Some(other) = file.rows.values().find(|row| row.model_id != arguments.model_id) {
        return Err(Failure::input(format!(
            "{}: holds answers of {}\nhint: name another file, or the same --model-id",
            output.display(),
            other.model_id
        )));
    }
    let opened = arguments.model.open(arguments.questions.clone())?;
    let model_settings = opened.settings()?;
    let settings = |question: &Q| {
        let turns = question.turns();
        let sampling = question.sampling(0);
        format!(
            "{model_settings} temperature {} max_new_tokens {} seed {} question {:016x}",
            sampling.temperature,
            sampling.max_new_tokens,
            arguments.seed,
            derived_seed(0, &turns)
        )
    };
    for question in questions {
        let Some(row) = file.rows.get(&question.id()) else { continue };
        let now = settings(question);
        // Other programs' rows do not say.
        if let Some(was) =
            row.other.get("meta").and_then(|meta| meta["settings"].as_str()).filter(|was| *was != now)
        {
            return Err(Failure::input(format!(
                "{}: question {} was answered with {was}, now it is {now}\nhint: name another file, or move this one away",
                output.display(),
                question.id()
            )));
        }
    }
    let open: Vec<(usize, &Q)> = questions
        .iter()
        .enumerate()
        .filter(|(_, question)| !file.rows.contains_key(&question.id()))
        .collect();
    note!("{} questions, {} answered already", questions.len(), questions.len() - open.len());
    if open.is_empty() {
        return Ok(());
    }
    // A first turn that does not fit is found before hours are spent.
    for (place, question) in &open {
        let first: Vec<_> =
            question.turns().first().map(|turn| asft_data::Message::new("user", *turn)).into_iter().collect();
        opened.encode(*place, &first)?;
    }
    let open: Vec<&Q> = open.into_iter().map(|(_, question)| question).collect();
    let interrupted = interruptible("stopping; the questions that are answered whole are kept")?;
    opened.with_weights(|model| {
        let mut lengths = vec![];
        let mut too_long = vec![];
        for few in open.chunks(2 * usize::from(arguments.model.options.batch)) {
            let rows = answer_few(model, &arguments.model_id, few, &settings, &interrupted, &mut lengths)?;
            let Some((rows, left)) = rows else {
                return Err(Failure::Interrupted(format!(
                    "interrupted with {} of {} questions answered\nhint: the same command goes on from there",
                    file.rows.len(),
                    questions.len()
                )));
            };
            too_long.extend(left);
            file.rows.extend(rows.into_iter().map(|row| (row.question_id.clone(), row)));
            file.write(output)?;
            note!("answered {}/{}", file.rows.len(), questions.len());
        }
        let tokens: usize = lengths.iter().map(|(tokens, _)| tokens).sum();
        let ended = lengths.iter().filter(|(_, stop)| *stop == StopReason::EndOfTurn).count();
        note!(
            "{} answers of this sitting: {:.1} tokens in the mean, {ended} ended by themselves, {} were cut",
            lengths.len(),
            tokens as f64 / lengths.len().max(1) as f64,
            lengths.len() - ended
        );
        match too_long.as_slice() {
            [] => Ok(()),
            [first, ..] => Err(Failure::Run(anyhow::anyhow!(
                "{} questions have a later turn for which the model has no room, first {first}\nhint: --max-new-tokens lower makes room, in another file",
                too_long.len()
            ))),
        }
    })
}

type Row<Q> = AnswerRow<<Q as Asked>::Id, <Q as Asked>::Turn>;

/// Rows of the questions that were answered, and the ids of those with a turn for which there is no room.
type Answered<Q> = (Vec<Row<Q>>, Vec<<Q as Asked>::Id>);

/// All turns of a few questions; `None` if it was interrupted.
fn answer_few<Q: Asked>(
    model: &LocalModel<'_>,
    model_id: &str,
    questions: &[&Q],
    settings: &dyn Fn(&Q) -> String,
    interrupted: &AtomicBool,
    lengths: &mut Vec<(usize, StopReason)>,
) -> Result<Option<Answered<Q>>, Failure> {
    let mut answers: Vec<Vec<Answer>> = questions.iter().map(|_| vec![]).collect();
    let mut too_long = BTreeSet::new();
    let most = questions.iter().map(|question| question.turns().len()).max().unwrap_or(0);
    for turn in 0..most {
        let mut places = vec![];
        let mut queries = vec![];
        for (place, question) in questions.iter().enumerate() {
            let asked = question.turns();
            if turn >= asked.len() || too_long.contains(&place) {
                continue;
            }
            let mut conversation = vec![];
            for (asked, answer) in
                asked.iter().zip(answers[place].iter().map(Some).chain([None])).take(turn + 1)
            {
                conversation.push(asft_eval::judge::Message::new("user", *asked));
                if let Some(answer) = answer {
                    conversation.push(asft_eval::judge::Message::new("assistant", answer.text.trim()));
                }
            }
            if turn > 0 && !model.has_room(&conversation) {
                too_long.insert(place);
                continue;
            }
            places.push(place);
            queries.push(Query { conversation, sampling: question.sampling(turn) });
        }
        let mut given = vec![None; queries.len()];
        let mut source = model;
        let flow = source.answers(&queries, &mut |query, answer| {
            given[query] = Some(answer);
            match interrupted.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        if flow.is_break() {
            return Ok(None);
        }
        for (place, answer) in places.into_iter().zip(given) {
            answers[place].push(answer.expect("every query is answered"));
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let mut row = |(question, answers): (&Q, &Vec<Answer>)| {
        let texts: Vec<&str> = answers.iter().map(|answer| answer.text.trim()).collect();
        let reasons = answers.iter().map(|answer| match answer.stop {
            StopReason::EndOfTurn => "end_of_turn",
            StopReason::Length => "length",
        });
        let meta = json!({
            "tokens": answers.iter().map(|answer| answer.tokens).collect::<Vec<_>>(),
            "stop": reasons.collect::<Vec<_>>(),
            "settings": settings(question),
        });
        lengths.extend(answers.iter().map(|answer| (answer.tokens, answer.stop)));
        AnswerRow {
            question_id: question.id(),
            answer_id: answer_id(model_id, &question.id().to_string(), &texts),
            model_id: model_id.to_owned(),
            choices: vec![Choice {
                index: 0,
                turns: texts.iter().map(|text| Q::turn((*text).to_owned())).collect(),
                other: Map::new(),
            }],
            tstamp: now,
            other: Map::from_iter([("meta".to_owned(), meta)]),
        }
    };
    let whole = questions.iter().zip(&answers).enumerate().filter(|(place, _)| !too_long.contains(place));
    let rows = whole.map(|(_, (question, answers))| row((question, answers))).collect();
    Ok(Some((rows, too_long.iter().map(|place| questions[*place].id()).collect())))
}
