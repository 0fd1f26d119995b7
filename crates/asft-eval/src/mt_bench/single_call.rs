//! Ratings: what the judge is asked for each turn of each answer, and the rows of its ratings.

use std::collections::BTreeMap;

use serde_json::{Map, Number};

use super::{
    Answers, Questions, SingleJudgment,
    prompts::{Mode, Prompts},
    question::Question,
    rating,
};
use crate::{
    EvalError,
    answer_file::{distinct_ids, warn_of_failed},
    judge::{Item, Message, Next, Reply},
    judged::Judged,
};

/// A rating to be had.
#[derive(Clone, Debug, PartialEq)]
pub struct SingleCall {
    /// The question.
    pub question_id: i64,
    /// 1 or 2.
    pub turn: u8,
    /// Whose answer.
    pub model: String,
    /// The name of the prompt.
    pub prompt: String,
    /// The prompt's hash, see [`Prompt`](super::Prompt).
    pub template_sha256: String,
    /// What the judge is sent.
    pub messages: Vec<Message>,
}

impl SingleCall {
    /// The user's message.
    #[must_use]
    pub fn user_prompt(&self) -> &str {
        &self.messages[1].content
    }

    /// Whether a judgment of the turn was made by this request; those of other programs do not say all of it.
    pub(super) fn made(&self, row: &SingleJudgment) -> bool {
        let template = row.meta.as_ref().and_then(|meta| meta.template_sha256.as_ref());
        row.judge.1 == self.prompt
            && row.user_prompt == self.user_prompt()
            && template.is_none_or(|template| *template == self.template_sha256)
    }
}

impl Item for SingleCall {
    fn next(&self, replies: &[Reply]) -> Next {
        match replies.first() {
            None => Next::Ask(self.messages.clone()),
            Some(reply) => Next::Done(rating::status(reply)),
        }
    }
}

/// Every rating that these answers need, by question, then turn, then answer file, but of failed answers.
///
/// # Errors
/// If an answer or a needed reference answer is missing, an answered question is not among the questions, two
/// files name one model, or the prompts do not fit.
pub fn single_calls(
    questions: &Questions,
    answers: &[Answers],
    references: Option<&Answers>,
    prompts: &Prompts,
) -> Result<Vec<SingleCall>, EvalError> {
    distinct_ids(answers.iter().map(|file| file.id.as_str()))?;
    for file in answers {
        file.only_questions(|question| questions.get(*question).is_some())?;
    }
    let (mut calls, mut failed) = (vec![], BTreeMap::new());
    for question in &questions.rows {
        for turn in 1..=question.turns.len() as u8 {
            let prompt = prompts.get(Mode::Single, question.needs_reference(), turn)?;
            for file in answers {
                let id = question.question_id;
                if file.has_failed(&id, turn.into()) {
                    *failed.entry(file.id.as_str()).or_default() += 1;
                    continue;
                }
                let mut values = shared_values(question, turn, references)?;
                if turn == 1 {
                    values.push(("answer", file.turn(&id, 0)?));
                } else {
                    values.extend([
                        ("answer_1", file.turn(&id, 0)?.as_str()),
                        ("answer_2", file.turn(&id, 1)?),
                    ]);
                }
                calls.push(SingleCall {
                    question_id: id,
                    turn,
                    model: file.id.clone(),
                    prompt: prompt.name.clone(),
                    template_sha256: prompt.template_sha256.clone(),
                    messages: prompt.messages(&values)?,
                });
            }
        }
    }
    warn_of_failed(&failed);
    Ok(calls)
}

/// The fields of question and reference answers.
pub(super) fn shared_values<'a>(
    question: &'a Question,
    turn: u8,
    references: Option<&'a Answers>,
) -> Result<Vec<(&'static str, &'a str)>, EvalError> {
    let mut values: Vec<(&str, &str)> = match turn {
        1 => vec![("question", &question.turns[0])],
        _ => vec![("question_1", &question.turns[0]), ("question_2", &question.turns[1])],
    };
    if question.needs_reference() {
        let id = question.question_id;
        let references = references.ok_or_else(|| {
            EvalError::Input(format!(
                "question {id} ({}) is judged against a reference answer, and there are none\nhint: --references",
                question.category
            ))
        })?;
        values.push(("ref_answer_1", references.turn(&id, 0)?));
        if turn == 2 {
            values.push(("ref_answer_2", references.turn(&id, 1)?));
        }
    }
    Ok(values)
}

/// The rows of a file of ratings, in the order of the calls; calls without a reply have none. FastChat's files
/// escape what is not ASCII.
///
/// # Panics
/// If there are not as many results as calls.
#[must_use]
pub fn single_rows(calls: &[SingleCall], judged: &[Judged], judge: &str) -> Vec<SingleJudgment> {
    assert_eq!(calls.len(), judged.len(), "a result for each call");
    let answered = calls.iter().zip(judged).filter(|(_, judged)| judged.is_answered());
    answered
        .map(|(call, judged)| {
            let judgment = judged.texts().next().unwrap_or_default().to_owned();
            SingleJudgment {
                question_id: call.question_id,
                model: call.model.clone(),
                judge: (judge.to_owned(), call.prompt.clone()),
                user_prompt: call.user_prompt().to_owned(),
                score: rating::rating(&judgment).unwrap_or_else(|| Number::from(-1)),
                judgment,
                turn: call.turn,
                tstamp: judged.created,
                meta: Some(judged.meta(call.user_prompt(), &call.template_sha256)),
                other: Map::new(),
            }
        })
        .collect()
}
