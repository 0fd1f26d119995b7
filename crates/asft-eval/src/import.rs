//! Recorded judgments as what a judge's cache holds, so that they can be replayed (EVALUATION §6.6).

use std::collections::HashMap;

use crate::{
    judge::{Message, Params, Reply},
    sha256::sha256_hex,
};

/// A recorded reply and the request it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Who judged.
    pub judge: String,
    /// What was asked.
    pub messages: Vec<Message>,
    /// What was sent beside it by the protocol.
    pub params: Params,
    /// The number of the request for its item, from 0.
    pub attempt: usize,
    /// What was said.
    pub reply: Reply,
    /// When, in seconds; 0 where the file does not say.
    pub created: f64,
}

/// Entries of recorded files, and what was found on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Import {
    /// One for each request, by first appearance.
    pub entries: Vec<Entry>,
    /// Judgments read: ratings, or single games.
    pub rows: usize,
    /// Those without a reply.
    pub skipped: usize,
    /// Those that a later one with the same request stands for.
    pub replaced: usize,
    /// Judgments whose stored verdict is not what their text says, in words.
    pub differing: Vec<String>,
    /// By hash of judge and messages.
    places: HashMap<String, usize>,
}

impl Import {
    /// Adds a reply, which takes the place of an earlier one to the same request.
    pub(crate) fn add(&mut self, entry: Entry) {
        let messages = entry.messages.iter().flat_map(|message| [&message.role, &message.content]);
        let texts: Vec<&str> = [&entry.judge].into_iter().chain(messages).map(String::as_str).collect();
        let key = sha256_hex(&texts.join("\0"));
        match self.places.get(&key) {
            Some(place) => {
                self.entries[*place] = entry;
                self.replaced += 1;
            }
            None => {
                self.places.insert(key, self.entries.len());
                self.entries.push(entry);
            }
        }
    }
}
