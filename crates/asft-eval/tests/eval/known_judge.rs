//! Judges with known answers, asked without a server.

use asft_eval::{
    Judged,
    judge::{Item, Message, Next, Params, Reply, Status},
    judge_behaviour::Behaviour,
};

/// What `behaviour` says to each item.
pub fn judge_all(items: &[impl Item], behaviour: &str) -> Vec<Judged> {
    let behaviour = Behaviour::parse(behaviour).unwrap();
    let reply = |messages: &[Message]| Reply {
        content: Some(behaviour.reply(messages).unwrap()),
        ..Reply::default()
    };
    items.iter().map(|item| judge_one(item, reply)).collect()
}

/// What is had for one item from a judge that replies by a function.
pub fn judge_one(item: &impl Item, mut reply: impl FnMut(&[Message]) -> Reply) -> Judged {
    let mut replies = vec![];
    loop {
        match item.next(&replies) {
            Next::Ask(messages) => replies.push(reply(&messages)),
            Next::Done(status) => {
                return Judged { replies, status, created: 5.0, source: None, params: Params::new() };
            }
        }
    }
}

/// An item that was never asked.
pub fn unanswered(status: Status) -> Judged {
    Judged { replies: vec![], status, created: 0.0, source: None, params: Params::new() }
}

/// Unicode scalars of all messages, and tokens as they are estimated before asking.
pub fn size<'a>(messages: impl Iterator<Item = &'a Vec<Message>>) -> (usize, usize) {
    messages
        .map(|messages| messages.iter().map(|message| message.content.chars().count()).sum())
        .fold((0, 0), |(characters, tokens), call: usize| (characters + call, tokens + call.div_ceil(4)))
}
