//! Anthropic's HH-RLHF: two whole transcripts that share their prompt.

use serde_json::{Map, Value};

use super::{Answers, Extracted, fields::Fields};
use crate::{Message, dataset::DropReason};

/// Only with the blank line before it is a name a marker: turns quote dialogues too.
const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

/// True of rows whose transcripts have both markers.
pub(super) fn is_transcript(row: &Map<String, Value>) -> bool {
    let marked = |text: &str| text.contains(HUMAN) && text.contains(ASSISTANT);
    ["chosen", "rejected"].iter().any(|key| row.get(*key).and_then(Value::as_str).is_some_and(marked))
}

/// Reads both transcripts by the strict rule: the same prompt, roles that alternate and end with the
/// assistant, two answers that are not empty and not the same.
pub(super) fn answers(fields: &Fields) -> Extracted {
    let (chosen, rejected) = (fields.text("chosen")?, fields.text("rejected")?);
    if let Some(&fault) = faults(chosen, rejected).first() {
        return Ok(Err(fault));
    }
    let mut prompt = turns(chosen);
    let chosen = prompt.pop().into_iter().collect();
    let rejected = turns(rejected).pop().into_iter().collect();
    Ok(Ok(Answers { prompt, chosen, rejected: Some(rejected) }))
}

/// Everything that is wrong with a row; the first fault is the one it is counted under.
pub(super) fn faults(chosen: &str, rejected: &str) -> Vec<DropReason> {
    let ((chosen_prompt, chosen_answer), (rejected_prompt, rejected_answer)) =
        (split(chosen), split(rejected));
    let mut faults = vec![];
    if chosen_prompt != rejected_prompt {
        faults.push(DropReason::PromptsDiffer);
    }
    if !alternates(chosen) || !alternates(rejected) {
        faults.push(DropReason::RolesDoNotAlternate);
    }
    if chosen_answer.is_empty() {
        faults.push(DropReason::EmptyChosen);
    }
    if rejected_answer.is_empty() {
        faults.push(DropReason::EmptyRejected);
    }
    if chosen_answer == rejected_answer {
        faults.push(DropReason::Identical);
    }
    faults
}

/// Prompt up to and including the last assistant marker, and the stripped answer after it.
///
/// The longest common prefix of the two sides would not do: it runs into the answers.
fn split(transcript: &str) -> (&str, &str) {
    let end = transcript.rfind(ASSISTANT).map_or(transcript.len(), |start| start + ASSISTANT.len());
    (&transcript[..end], transcript[end..].trim())
}

/// The turns in order. Text before the first marker is a turn of no known role.
fn turns(transcript: &str) -> Vec<Message> {
    let mut turns = vec![];
    let mut role = "";
    let mut rest = transcript;
    loop {
        let human = rest.find(HUMAN).map(|at| (at, HUMAN, "user"));
        let assistant = rest.find(ASSISTANT).map(|at| (at, ASSISTANT, "assistant"));
        let next = human.into_iter().chain(assistant).min();
        let text = next.map_or(rest, |(at, ..)| &rest[..at]).trim();
        if !(role.is_empty() && text.is_empty()) {
            turns.push(Message::new(role, text));
        }
        match next {
            None => return turns,
            Some((at, marker, next_role)) => {
                rest = &rest[at + marker.len()..];
                role = next_role;
            }
        }
    }
}

fn alternates(transcript: &str) -> bool {
    let turns = turns(transcript);
    let expected = ["user", "assistant"].into_iter().cycle();
    turns.len() >= 2
        && turns.len().is_multiple_of(2)
        && turns.iter().zip(expected).all(|(turn, role)| turn.role == role)
}
