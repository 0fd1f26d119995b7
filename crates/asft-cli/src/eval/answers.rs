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
    judge::Message,
    schema::Kind,
};
use clap::Args;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, json};

use crate::{
    failure::Failure,
    generate::ModelArguments,
    number::whole,
    output::{Claim, check_writable, note},
    train::interruptible,
};

/// Which model answers which questions.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// The model's name in the file; the file's own name is what judgments go by.
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub model_id: String,
    /// The benchmark's questions (JSON Lines).
    #[arg(long, value_name = "Q.jsonl")]
    pub questions: PathBuf,
    /// Where the answers go; questions that are answered there already are passed over.
    #[arg(long, value_name = "A.jsonl")]
    pub output: PathBuf,
    /// Seed of the draws; each answer draws on its own.
    #[arg(long, default_value_t = 0, value_parser = whole(0u64))]
    pub seed: u64,
    /// Answers only the first questions; without it, or with more, a later run goes on.
    #[arg(long, value_name = "N", value_parser = whole(1usize))]
    pub limit: Option<usize>,
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

/// Answers the questions, and writes the file as soon as one is answered whole.
pub fn answer<Q: Asked>(arguments: &Arguments, kind: Kind, questions: &[Q]) -> Result<(), Failure> {
    let output = &arguments.output;
    check_writable(output, std::slice::from_ref(&arguments.questions))?;
    let _claim = Claim::new(output)?;
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
    let asked = &questions[..arguments.limit.unwrap_or(usize::MAX).min(questions.len())];
    let open: Vec<(usize, &Q)> =
        asked.iter().enumerate().filter(|(_, question)| !file.rows.contains_key(&question.id())).collect();
    let mut answered = asked.len() - open.len();
    match asked.len() == questions.len() {
        true => note!("{} questions, {answered} answered already", asked.len()),
        false => {
            note!("the first {} of {} questions, {answered} answered already", asked.len(), questions.len());
        }
    }
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
        let mut written = Ok(());
        let has_room = |conversation: &[Message]| model.has_room(conversation);
        let mut source = model;
        let flow = converse(&mut source, &open, &has_room, &interrupted, &mut |question, answers| {
            let Some(answers) = answers else {
                too_long.push(question.id());
                return ControlFlow::Continue(());
            };
            lengths.extend(answers.iter().map(|answer| (answer.tokens, answer.stop)));
            let row = row(question, &arguments.model_id, &answers, settings(question));
            file.rows.insert(question.id(), row);
            written = file.write(output);
            if written.is_err() {
                return ControlFlow::Break(());
            }
            answered += 1;
            note!("answered {answered}/{}", asked.len());
            ControlFlow::Continue(())
        })?;
        written?;
        if flow.is_break() {
            return Err(Failure::Interrupted(format!(
                "interrupted with {answered} of {} questions answered\nhint: the same command goes on from there",
                asked.len()
            )));
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

/// Takes a question with its answers.
type Done<'a, Q> = dyn FnMut(&Q, Option<Vec<Answer>>) -> ControlFlow<()> + 'a;

/// Asks all turns of the questions. Each question is handed to `done` with its answers as soon as the last one is there,
/// or without any where a later turn finds no room; both `done` and an interruption break it off.
fn converse<Q: Asked, S: AnswerSource>(
    source: &mut S,
    questions: &[&Q],
    has_room: &dyn Fn(&[Message]) -> bool,
    interrupted: &AtomicBool,
    done: &mut Done<'_, Q>,
) -> Result<ControlFlow<()>, S::Error> {
    let first: Vec<Query> = questions.iter().map(|question| next_turn(*question, &[])).collect();
    let mut said: Vec<Vec<Answer>> = vec![vec![]; questions.len()];
    source.answers(&first, &mut |place, answer| {
        let (question, answers) = (questions[place], &mut said[place]);
        answers.push(answer);
        let next = (answers.len() < question.turns().len()).then(|| next_turn(question, answers));
        let flow = match next {
            None => done(question, Some(std::mem::take(answers))).map_continue(|()| None),
            Some(next) if has_room(&next.conversation) => ControlFlow::Continue(Some(next)),
            Some(_) => done(question, None).map_continue(|()| None),
        };
        match interrupted.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => flow,
        }
    })
}

/// The turn after those that were answered.
fn next_turn<Q: Asked>(question: &Q, answers: &[Answer]) -> Query {
    let mut conversation = vec![];
    for (turn, asked) in question.turns().into_iter().enumerate().take(answers.len() + 1) {
        conversation.push(Message::new("user", asked));
        conversation.extend(answers.get(turn).map(|answer| Message::new("assistant", answer.text.trim())));
    }
    Query { conversation, sampling: question.sampling(answers.len()) }
}

/// A question's row of the file.
fn row<Q: Asked>(
    question: &Q,
    model_id: &str,
    answers: &[Answer],
    settings: String,
) -> AnswerRow<Q::Id, Q::Turn> {
    let texts: Vec<&str> = answers.iter().map(|answer| answer.text.trim()).collect();
    let reasons = answers.iter().map(|answer| match answer.stop {
        StopReason::EndOfTurn => "end_of_turn",
        StopReason::Length => "length",
    });
    let meta = json!({
        "tokens": answers.iter().map(|answer| answer.tokens).collect::<Vec<_>>(),
        "stop": reasons.collect::<Vec<_>>(),
        "settings": settings,
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
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
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible};

    use super::*;

    /// Answers in the order of the queries, each as soon as the one before is told of.
    struct InTurn;

    impl AnswerSource for InTurn {
        type Error = Infallible;

        fn answers(
            &mut self,
            queries: &[Query],
            done: &mut dyn FnMut(usize, Answer) -> ControlFlow<(), Option<Query>>,
        ) -> Result<ControlFlow<()>, Infallible> {
            let mut waiting: VecDeque<(usize, Query)> = queries.iter().cloned().enumerate().collect();
            while let Some((place, query)) = waiting.pop_front() {
                let said = query.conversation.iter().map(|turn| turn.content.as_str()).collect::<Vec<_>>();
                let text = format!(" ({}) ", said.join("|"));
                match done(place, Answer { text, tokens: 1, stop: StopReason::Length }) {
                    ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
                    ControlFlow::Continue(next) => {
                        next.into_iter().for_each(|query| waiting.push_front((place, query)));
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        }
    }

    struct Question(i64, Vec<&'static str>);

    impl Asked for Question {
        type Id = i64;
        type Turn = String;

        fn id(&self) -> i64 {
            self.0
        }

        fn turns(&self) -> Vec<&str> {
            self.1.clone()
        }

        fn sampling(&self, turn: usize) -> asft_eval::Sampling {
            let seed = turn as u64;
            asft_eval::Sampling { temperature: 0.0, top_k: None, top_p: None, max_new_tokens: 1, seed }
        }

        fn turn(text: String) -> String {
            text
        }
    }

    /// What is handed over until a question says to stop.
    fn told(interrupted: bool, until: i64) -> (Vec<(i64, Option<String>)>, bool) {
        let questions = [Question(1, vec!["a", "b"]), Question(2, vec!["c", "long"]), Question(3, vec!["d"])];
        let mut told = vec![];
        let has_room = |conversation: &[Message]| conversation.iter().all(|turn| turn.content != "long");
        let done = &mut |question: &Question, answers: Option<Vec<Answer>>| {
            let texts = answers.map(|answers| answers.iter().map(|answer| answer.text.as_str()).collect());
            told.push((question.0, texts));
            if question.0 == until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let questions: Vec<&Question> = questions.iter().collect();
        let flow = converse(&mut InTurn, &questions, &has_room, &AtomicBool::new(interrupted), done);
        let Ok(flow) = flow;
        (told, flow.is_break())
    }

    #[test]
    fn a_question_is_handed_over_once_its_last_turn_is_answered() {
        let first = (1, Some(" (a)  (a|(a)|b) ".to_owned()));
        let all = vec![first.clone(), (2, None), (3, Some(" (d) ".to_owned()))];
        assert_eq!(told(false, 0), (all, false));
        // Before anything else is answered.
        assert_eq!(told(false, 1), (vec![first], true));
        assert_eq!(told(true, 0), (vec![], true));
    }
}
