//! UltraFeedback binarized: a prompt string, and two conversations that begin with it.

use super::{Extracted, fields::Fields, trl::split_prompt};
use crate::{Message, dataset::DropReason};

/// Splits the conversations as the implicit layout of TRL is, and holds the prompt string against them.
pub(super) fn answers(fields: &Fields) -> Extracted {
    let prompt = fields.text("prompt")?;
    let mut sides = vec![];
    for key in ["chosen", "rejected"] {
        let messages = fields.messages(key)?;
        let first = messages.iter().enumerate().find(|(_, message)| message.role != "system");
        match first {
            Some((index, first)) if first.role != "user" => {
                let path = format!("{key}[{index}].role");
                return Err(fields.wrong_role(&path, "user, repeating `prompt`,", &first.role));
            }
            _ => sides.push(messages),
        }
    }
    let (Some(rejected), Some(chosen)) = (sides.pop(), sides.pop()) else {
        return Ok(Err(DropReason::EmptyChosen));
    };
    let repeats = |message: &Message| message.role == "user" && message.content.trim() == prompt.trim();
    Ok(split_prompt(chosen, rejected).and_then(|answers| match answers.prompt.iter().any(repeats) {
        true => Ok(answers),
        false => Err(DropReason::PromptsDiffer),
    }))
}
