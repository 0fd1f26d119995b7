//! A preference row as every reader delivers it, before templates and tokens.

use std::{fmt, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or whatever else the chat template knows.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}

impl Message {
    /// A message of `role` holding `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// Where a row came from, for messages that a person can act on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file as it was named.
    pub file: Arc<Path>,
    /// 1-based: the line of a JSONL file, the element of a JSON array or the row of a Parquet file.
    pub row: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.row)
    }
}

/// One prompt with its preferred and, but in SFT data, its dispreferred answer.
#[derive(Clone, Debug, PartialEq)]
pub struct PreferenceRow {
    /// Where the row was read.
    pub origin: Origin,
    /// The conversation up to the answers. A plain-string prompt is one `user` message.
    pub prompt: Vec<Message>,
    /// The preferred answer: one assistant message, rarely more.
    pub chosen: Vec<Message>,
    /// The dispreferred answer; `None` in SFT data.
    pub rejected: Option<Vec<Message>>,
    /// Scores of (chosen, rejected) where the file has them; equal scores are counted as ties.
    pub scores: Option<(f64, f64)>,
}
