//! The three layouts of TRL's preference trainers.

use super::{Answers, Extracted, fields::Fields};
use crate::{DataError, Message, dataset::DropReason};

/// Three strings: the prompt is a user's turn, the answers are the assistant's.
pub(super) fn strings(fields: &Fields) -> Extracted {
    let answer = |key| Ok::<_, DataError>(vec![Message::new("assistant", fields.text(key)?)]);
    Ok(Ok(Answers {
        prompt: vec![Message::new("user", fields.text("prompt")?)],
        chosen: answer("chosen")?,
        rejected: Some(answer("rejected")?),
    }))
}

/// Three lists of messages.
pub(super) fn explicit_prompt(fields: &Fields) -> Extracted {
    Ok(Ok(Answers {
        prompt: fields.messages("prompt")?,
        chosen: fields.answer("chosen")?,
        rejected: Some(fields.answer("rejected")?),
    }))
}

/// Two lists of messages, which begin with the prompt.
pub(super) fn implicit_prompt(fields: &Fields) -> Extracted {
    Ok(split_prompt(fields.messages("chosen")?, fields.messages("rejected")?))
}

/// Takes the messages that both sides begin with as the prompt, as TRL's `extract_prompt` does; each side
/// keeps at least its last message.
pub(super) fn split_prompt(
    mut chosen: Vec<Message>,
    mut rejected: Vec<Message>,
) -> Result<Answers, DropReason> {
    if chosen.is_empty() {
        return Err(DropReason::EmptyChosen);
    }
    if rejected.is_empty() {
        return Err(DropReason::EmptyRejected);
    }
    let alike = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
    let prompt_messages = alike.min(chosen.len() - 1).min(rejected.len() - 1);
    let chosen_answer = chosen.split_off(prompt_messages);
    let rejected_answer = rejected.split_off(prompt_messages);
    let answers = |messages: &[Message]| messages[0].role == "assistant";
    if !answers(&chosen_answer) || !answers(&rejected_answer) {
        return Err(DropReason::PromptsDiffer);
    }
    Ok(Answers { prompt: chosen, chosen: chosen_answer, rejected: Some(rejected_answer) })
}
