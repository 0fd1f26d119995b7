//! The vocabulary between protocols (MT-Bench, Arena-Hard) and whatever answers for the judge.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A message to or from a judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of a role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// Everything sent beside the messages that changes the reply (`temperature`, `max_tokens`, …), by name.
pub type Params = BTreeMap<String, Value>;

/// What a judge replied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The text; null where the server sent none.
    pub content: Option<String>,
    /// A refusal in a field of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Why the reply ended (`stop`, `length`, `content_filter`).
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// Tokens, where the server counts them.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// The model that answered, as the server names it.
    #[serde(default)]
    pub model: Option<String>,
    /// The server's mark of its configuration.
    #[serde(default)]
    pub system_fingerprint: Option<String>,
}

/// Tokens of a request and its reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the messages.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Of the reply.
    #[serde(default)]
    pub completion_tokens: u64,
}

/// What became of a judgment (EVALUATION §6.2): only `Ok` has a verdict that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A verdict was found.
    Ok,
    /// The judge refused.
    Refused,
    /// The reply was cut before a verdict.
    Truncated,
    /// The reply is blank.
    Empty,
    /// Several verdicts that differ.
    Contradictory,
    /// No verdict.
    Unparsable,
    /// A rating that is not on the scale.
    OutOfRange,
    /// No reply was had.
    ApiError,
    /// The spending limit was reached first.
    Budget,
    /// Not asked, and not known from before.
    Missing,
}

impl Status {
    /// Its name in files and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Truncated => "truncated",
            Self::Empty => "empty",
            Self::Contradictory => "contradictory",
            Self::Unparsable => "unparsable",
            Self::OutOfRange => "out_of_range",
            Self::ApiError => "api_error",
            Self::Budget => "budget",
            Self::Missing => "missing",
        }
    }

    /// The status of a last reply without a verdict, in the order of §6.2; `contradictory` says whether it held
    /// several that differ.
    #[must_use]
    pub fn without_verdict(reply: &Reply, contradictory: bool) -> Self {
        let finish = reply.finish_reason.as_deref();
        if reply.refusal.is_some() || finish == Some("content_filter") {
            Self::Refused
        } else if finish == Some("length") {
            Self::Truncated
        } else if reply.content.as_deref().is_none_or(|text| text.trim().is_empty()) {
            Self::Empty
        } else if contradictory {
            Self::Contradictory
        } else {
            Self::Unparsable
        }
    }
}

/// One judgment to be had.
pub trait Item: Sync {
    /// What to ask after the replies so far, of which the first is to the first request and so on.
    fn next(&self, replies: &[Reply]) -> Next;
}

/// What an [`Item`] wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// These messages to be sent.
    Ask(Vec<Message>),
    /// Nothing more.
    Done(Status),
}
