//! What the judge is asked in each game, and the rows of its verdicts.

use std::collections::BTreeMap;

use serde_json::Map;

use super::{
    Answers, Game, JudgeConfig, Judgment, Questions,
    verdict::{Label, Verdict, VerdictPattern},
};
use crate::{
    EvalError,
    answer_file::warn_of_failed,
    judge::{Item, Message, Next, Reply, Status},
    judged::Judged,
};

/// A game to be judged.
#[derive(Clone, Debug)]
pub struct ArenaGame {
    /// The question.
    pub question_id: String,
    /// Whose answer plays against the baseline's.
    pub model: String,
    /// 1 with the baseline as A, 2 with the places changed.
    pub game: u8,
    /// What the judge is sent first.
    pub messages: Vec<Message>,
    /// The hash of the judge's prompt.
    pub template_sha256: String,
    retry: Message,
    pattern: VerdictPattern,
    attempts: usize,
}

impl ArenaGame {
    /// The user's first message.
    #[must_use]
    pub fn user_prompt(&self) -> &str {
        &self.messages[1].content
    }

    /// As it is stored: each reply after a line end.
    fn judgment<'a>(texts: impl Iterator<Item = &'a str>) -> String {
        texts.flat_map(|text| ["\n", text]).collect()
    }
}

impl Item for ArenaGame {
    fn next(&self, replies: &[Reply]) -> Next {
        let texts = || replies.iter().map(|reply| reply.content.as_deref().unwrap_or_default());
        let Some(last) = replies.last() else { return Next::Ask(self.messages.clone()) };
        match self.pattern.read(&Self::judgment(texts())) {
            Verdict::One(label) if Label::parse(&label).is_some() => Next::Done(Status::Ok),
            Verdict::One(_) => Next::Done(Status::without_verdict(last, false)),
            Verdict::Several => Next::Done(Status::without_verdict(last, true)),
            Verdict::None if replies.len() >= self.attempts => {
                Next::Done(Status::without_verdict(last, false))
            }
            Verdict::None => {
                let again = texts().flat_map(|text| [Message::new("assistant", text), self.retry.clone()]);
                Next::Ask(self.messages.iter().cloned().chain(again).collect())
            }
        }
    }
}

/// Both games of every question, in the order of the questions, but those with a failed answer; `retry_message` asks again
/// for a verdict.
///
/// # Errors
/// If an answer is missing, an answered question is not among the questions, or the answers are the baseline's.
pub fn games(
    questions: &Questions,
    answers: &Answers,
    baseline: &Answers,
    config: &JudgeConfig,
    retry_message: &str,
) -> Result<Vec<ArenaGame>, EvalError> {
    if answers.id == baseline.id {
        return Err(EvalError::Input(format!(
            "{} would play against itself\nhint: the file's name is the model's id",
            answers.id
        )));
    }
    answers.only_questions(|id| questions.rows.iter().any(|question| question.question_id == *id))?;
    let (mut games, mut failed) = (vec![], BTreeMap::new());
    for question in &questions.rows {
        let id = &question.question_id;
        if let Some(file) = [answers, baseline].into_iter().find(|file| file.has_failed(id, 1)) {
            *failed.entry(file.id.as_str()).or_default() += 1;
            continue;
        }
        let (ours, theirs) = (&answers.turn(id, 0)?.content, &baseline.turn(id, 0)?.content);
        for (game, a, b) in [(1, theirs, ours), (2, ours, theirs)] {
            games.push(ArenaGame {
                question_id: id.clone(),
                model: answers.id.clone(),
                game,
                messages: config.messages(&question.turns[0].content, a, b),
                template_sha256: config.template_sha256.clone(),
                retry: Message::new("user", retry_message),
                pattern: config.pattern.clone(),
                attempts: config.attempts,
            });
        }
    }
    warn_of_failed(&failed);
    Ok(games)
}

/// The rows of a model's file, in the order of the games; where a game has no reply there is none.
///
/// # Panics
/// If there are not as many results as games, or the games are not those of [`games`].
#[must_use]
pub fn rows(games: &[ArenaGame], judged: &[Judged], judge: &str) -> Vec<Judgment> {
    assert_eq!(games.len(), judged.len(), "a result for each game");
    let mut rows = vec![];
    for (games, judged) in games.chunks(2).zip(judged.chunks(2)) {
        let [one, two] = games else { panic!("two games each") };
        assert_eq!((one.game, two.game), (1, 2), "game 1, then game 2");
        if !judged.iter().all(Judged::is_answered) {
            continue;
        }
        let stored = |game: &ArenaGame, judged: &Judged| {
            let judgment = ArenaGame::judgment(judged.texts());
            let score = match game.pattern.read(&judgment) {
                Verdict::One(label) => Some(label),
                Verdict::None | Verdict::Several => None,
            };
            let meta = Some(judged.meta(game.user_prompt(), &game.template_sha256));
            Game { user_prompt: game.user_prompt().to_owned(), judgment, score, meta, other: Map::new() }
        };
        rows.push(Judgment {
            question_id: one.question_id.clone(),
            model: one.model.clone(),
            judge: Some(judge.to_owned()),
            games: [stored(one, &judged[0]), stored(two, &judged[1])],
            other: Map::new(),
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn game() -> ArenaGame {
        ArenaGame {
            question_id: "q".into(),
            model: "m".into(),
            game: 1,
            messages: vec![Message::new("system", "s"), Message::new("user", "u")],
            template_sha256: "t".into(),
            retry: Message::new("user", "again"),
            pattern: VerdictPattern::default(),
            attempts: 2,
        }
    }

    fn reply(content: &str) -> Reply {
        Reply { content: Some(content.to_owned()), ..Reply::default() }
    }

    #[test]
    fn a_game_without_verdict_is_asked_about_once_more() {
        let game = game();
        assert_eq!(game.next(&[]), Next::Ask(game.messages.clone()));
        let Next::Ask(again) = game.next(&[reply("Well.")]) else { panic!("asks again") };
        let roles: Vec<_> =
            again.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
        assert_eq!(roles, [("system", "s"), ("user", "u"), ("assistant", "Well."), ("user", "again")]);
        assert_eq!(game.next(&[reply("Well."), reply("[[A>B]]")]), Next::Done(Status::Ok));
        assert_eq!(game.next(&[reply("Well."), reply("No.")]), Next::Done(Status::Unparsable));
        // A label of the first reply counts beside those of the second.
        assert_eq!(game.next(&[reply("[[A>B]] [[B>A]]")]), Next::Done(Status::Contradictory));
        assert_eq!(game.next(&[reply("[[A<B]]")]), Next::Done(Status::Unparsable));
        assert_eq!(game.next(&[Reply::default(), Reply::default()]), Next::Done(Status::Empty));
    }

    #[test]
    fn rows_hold_every_reply() {
        let games = [game(), ArenaGame { game: 2, ..game() }];
        let judged = |replies: Vec<Reply>, status| Judged {
            replies,
            status,
            created: 1.0,
            source: None,
            params: Default::default(),
        };
        let results = [
            judged(vec![reply("Well."), reply("[[A>B]]")], Status::Ok),
            judged(vec![reply("[[A>B]] [[B>A]]")], Status::Contradictory),
        ];
        let rows = super::rows(&games, &results, "j");
        assert_eq!(rows[0].games[0].judgment, "\nWell.\n[[A>B]]");
        assert_eq!(
            (rows[0].games[0].score.as_deref(), rows[0].games[1].score.as_deref()),
            (Some("A>B"), None)
        );
        assert_eq!(super::super::retried(&rows), 1);
        let failed = [results[0].clone(), judged(vec![], Status::ApiError)];
        assert_eq!(super::rows(&games, &failed, "j"), []);
    }
}
