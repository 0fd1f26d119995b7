//! LLaMA-Factory's ShareGPT layout of ranked answers.

use super::{Answers, Extracted, fields::Fields, is_blank};
use crate::Message;

const ROLES: &str = "one of system, human, user, gpt, assistant, observation, function, function_call, tool";

/// A conversation of `{from, value}` turns and two further turns that end it.
pub(super) fn answers(fields: &Fields) -> Extracted {
    let mut prompt = vec![];
    let system = fields.optional_text("system")?;
    if !is_blank(system) {
        prompt.push(Message::new("system", system));
    }
    for (index, value) in fields.list("conversations")?.iter().enumerate() {
        let turn = fields.turn(&format!("conversations[{index}]"), value, "from", "value")?;
        let role = role(&turn.role)
            .ok_or_else(|| fields.wrong_role(&format!("{}.from", turn.path), ROLES, &turn.role))?;
        prompt.push(Message::new(role, turn.text));
    }
    let answer = |key: &str| {
        let turn = fields.turn(key, fields.value(key)?, "from", "value")?;
        match role(&turn.role) {
            Some("assistant") => Ok(vec![Message::new("assistant", turn.text)]),
            _ => Err(fields.wrong_role(&format!("{key}.from"), "gpt or assistant", &turn.role)),
        }
    };
    let (chosen, rejected) = (answer("chosen")?, answer("rejected")?);
    Ok(Ok(Answers { prompt, chosen, rejected: Some(rejected) }))
}

/// The chat template's name of a role; those it may know besides the usual three keep their own.
fn role(from: &str) -> Option<&'static str> {
    Some(match from {
        "system" => "system",
        "human" | "user" => "user",
        "gpt" | "assistant" => "assistant",
        "observation" => "observation",
        "function" => "function",
        "function_call" => "function_call",
        "tool" => "tool",
        _ => return None,
    })
}
