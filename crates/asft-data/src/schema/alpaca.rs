//! The Alpaca layouts: demonstrations, and LLaMA-Factory's ranked answers in the same keys.

use serde_json::Value;

use super::{Answers, Extracted, fields::Fields, is_blank};
use crate::{DataError, Message};

/// `chosen` and `rejected` to one instruction.
pub(super) fn ranking(fields: &Fields) -> Extracted {
    let rejected = Some(answer(fields, "rejected")?);
    Ok(Ok(Answers { prompt: prompt(fields)?, chosen: answer(fields, "chosen")?, rejected }))
}

/// One `output` to an instruction.
pub(super) fn demonstration(fields: &Fields) -> Extracted {
    let chosen = answer(fields, "output")?;
    Ok(Ok(Answers { prompt: prompt(fields)?, chosen, rejected: None }))
}

fn answer(fields: &Fields, key: &str) -> Result<Vec<Message>, DataError> {
    Ok(vec![Message::new("assistant", fields.text(key)?)])
}

/// System prompt, history, then the instruction with its input on the next line.
fn prompt(fields: &Fields) -> Result<Vec<Message>, DataError> {
    let mut prompt = vec![];
    let system = fields.optional_text("system")?;
    if !is_blank(system) {
        prompt.push(Message::new("system", system));
    }
    if fields.row.get("history").is_some_and(|history| !history.is_null()) {
        for (index, exchange) in fields.list("history")?.iter().enumerate() {
            let Some([Value::String(user), Value::String(assistant)]) =
                exchange.as_array().map(Vec::as_slice)
            else {
                let path = format!("history[{index}]");
                return Err(fields.wrong_type(&path, "two strings, [user, assistant]", exchange));
            };
            prompt.push(Message::new("user", user));
            prompt.push(Message::new("assistant", assistant));
        }
    }
    let (instruction, input) = (fields.text("instruction")?, fields.optional_text("input")?);
    let turn = match is_blank(input) {
        true => instruction.to_owned(),
        false => format!("{instruction}\n{input}"),
    };
    prompt.push(Message::new("user", turn));
    Ok(prompt)
}
