//! Pairwise mode: each answer plays two games against the baseline's, with their places changed.

use std::collections::BTreeMap;

use serde_json::Map;

use super::{
    Answers, PairJudgment, Questions, Winner,
    prompts::{Mode, Prompts},
    single_call::shared_values,
};
use crate::{
    EvalError,
    answer_file::{distinct_ids, warn_of_failed},
    judge::{Item, Message, Next, Reply, Status},
    judged::Judged,
};

/// A game to be judged.
#[derive(Clone, Debug, PartialEq)]
pub struct PairGame {
    /// The question.
    pub question_id: i64,
    /// 1 or 2.
    pub turn: u8,
    /// The model, shown as A in game 1.
    pub model_1: String,
    /// The baseline, shown as B in game 1.
    pub model_2: String,
    /// 1, or 2 with the places changed.
    pub game: u8,
    /// The name of the prompt.
    pub prompt: String,
    /// The prompt's hash, see [`Prompt`](super::Prompt).
    pub template_sha256: String,
    /// What the judge is sent.
    pub messages: Vec<Message>,
}

impl PairGame {
    /// The user's message.
    #[must_use]
    pub fn user_prompt(&self) -> &str {
        &self.messages[1].content
    }
}

impl Item for PairGame {
    fn next(&self, replies: &[Reply]) -> Next {
        match replies.first() {
            None => Next::Ask(self.messages.clone()),
            Some(reply) => {
                Next::Done(match winner(reply.content.as_deref().unwrap_or_default(), self.game) {
                    Winner::Error => Status::without_verdict(reply, false),
                    _ => Status::Ok,
                })
            }
        }
    }
}

/// Who won a game by the judge's reply: the first of the three verdicts that is in it, tested in this order.
pub(super) fn winner(text: &str, game: u8) -> Winner {
    let (a, b) = match game {
        1 => (Winner::Model1, Winner::Model2),
        _ => (Winner::Model2, Winner::Model1),
    };
    if text.contains("[[A]]") {
        a
    } else if text.contains("[[B]]") {
        b
    } else if text.contains("[[C]]") {
        Winner::Tie
    } else {
        Winner::Error
    }
}

/// Every game of these answers against the baseline's, by question, then turn, then answer file, then game, but those with
/// a failed answer.
///
/// # Errors
/// As for [`single_calls`](super::single_calls).
pub fn pair_games(
    questions: &Questions,
    answers: &[Answers],
    baseline: &Answers,
    references: Option<&Answers>,
    prompts: &Prompts,
) -> Result<Vec<PairGame>, EvalError> {
    distinct_ids(answers.iter().chain([baseline]).map(|file| file.id.as_str()))?;
    for file in answers {
        file.only_questions(|question| questions.get(*question).is_some())?;
    }
    let (mut games, mut failed) = (vec![], BTreeMap::new());
    for question in &questions.rows {
        for turn in 1..=question.turns.len() as u8 {
            let prompt = prompts.get(Mode::Pairwise, question.needs_reference(), turn)?;
            for file in answers {
                let id = question.question_id;
                let fails = |file: &&Answers| file.has_failed(&id, turn.into());
                if let Some(failing) = [file, baseline].into_iter().find(fails) {
                    *failed.entry(failing.id.as_str()).or_default() += 1;
                    continue;
                }
                for game in [1, 2] {
                    let (a, b) = if game == 1 { (file, baseline) } else { (baseline, file) };
                    let mut values = shared_values(question, turn, references)?;
                    if turn == 1 {
                        values
                            .extend([("answer_a", a.turn(&id, 0)?.as_str()), ("answer_b", b.turn(&id, 0)?)]);
                    } else {
                        values.extend([
                            ("answer_a_1", a.turn(&id, 0)?.as_str()),
                            ("answer_a_2", a.turn(&id, 1)?),
                            ("answer_b_1", b.turn(&id, 0)?),
                            ("answer_b_2", b.turn(&id, 1)?),
                        ]);
                    }
                    games.push(PairGame {
                        question_id: id,
                        turn,
                        model_1: file.id.clone(),
                        model_2: baseline.id.clone(),
                        game,
                        prompt: prompt.name.clone(),
                        template_sha256: prompt.template_sha256.clone(),
                        messages: prompt.messages(&values)?,
                    });
                }
            }
        }
    }
    warn_of_failed(&failed);
    Ok(games)
}

/// The rows of a file of pairwise judgments, in the order of the games; where a game has no reply there is none.
///
/// # Panics
/// If there are not as many results as games, or the games are not those of [`pair_games`].
#[must_use]
pub fn pair_rows(games: &[PairGame], judged: &[Judged], judge: &str) -> Vec<PairJudgment> {
    assert_eq!(games.len(), judged.len(), "a result for each game");
    let mut rows = vec![];
    for (games, judged) in games.chunks(2).zip(judged.chunks(2)) {
        let ([one, two], [in_one, in_two]) = (games, judged) else { panic!("two games each") };
        assert_eq!((one.game, two.game), (1, 2), "game 1, then game 2");
        if !in_one.is_answered() || !in_two.is_answered() {
            continue;
        }
        let text = |judged: &Judged| judged.texts().next().unwrap_or_default().to_owned();
        let (g1_judgment, g2_judgment) = (text(in_one), text(in_two));
        let both = Judged {
            replies: [&in_one.replies[..], &in_two.replies].concat(),
            status: if in_one.status == Status::Ok { in_two.status } else { in_one.status },
            created: in_one.created.max(in_two.created),
            source: in_one.source.clone(),
            params: in_one.params.clone(),
        };
        rows.push(PairJudgment {
            question_id: one.question_id,
            model_1: one.model_1.clone(),
            model_2: one.model_2.clone(),
            g1_winner: winner(&g1_judgment, 1),
            g2_winner: winner(&g2_judgment, 2),
            judge: (judge.to_owned(), one.prompt.clone()),
            g1_user_prompt: one.user_prompt().to_owned(),
            g1_judgment,
            g2_user_prompt: two.user_prompt().to_owned(),
            g2_judgment,
            turn: one.turn,
            tstamp: both.created,
            meta: Some(both.meta(one.user_prompt(), &one.template_sha256)),
            other: Map::new(),
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_tested_in_their_order() {
        assert_eq!(winner("[[B]] or rather [[A]]", 1), Winner::Model1);
        assert_eq!(winner("[[C]], no, [[B]]", 1), Winner::Model2);
        assert_eq!(winner("[[B]]", 2), Winner::Model1);
        assert_eq!(winner("[[C]]", 2), Winner::Tie);
        assert_eq!(winner("[A] A>B", 1), Winner::Error);
    }
}
