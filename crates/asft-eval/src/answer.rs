//! Where answers to be evaluated come from.

use std::ops::ControlFlow;

use sha2::{Digest, Sha256};

use crate::judge::Message;

/// A conversation to answer, which ends with a user's turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Its turns.
    pub conversation: Vec<Message>,
    /// How the answer is drawn.
    pub sampling: Sampling,
}

/// How an answer's tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Below 1e-4 the likeliest token is taken each time.
    pub temperature: f64,
    /// Only so many of the likeliest tokens, 0 for all; absent: the model's own setting, or 50.
    pub top_k: Option<usize>,
    /// Only the smallest set of tokens with this much probability; absent: the model's own setting, or 1.
    pub top_p: Option<f64>,
    /// Tokens after which an answer is cut.
    pub max_new_tokens: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model ended its turn.
    EndOfTurn,
    /// It was cut at [`Sampling::max_new_tokens`] or at the end of the model's context.
    Length,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its text without special tokens.
    pub text: String,
    /// Its length in the model's own tokens.
    pub tokens: usize,
    /// Why it ended.
    pub stop: StopReason,
}

/// A seed of an answer's own, from the seed of the whole and what names the answer (question, turn, choice).
#[must_use]
pub fn derived_seed(seed: u64, parts: &[&str]) -> u64 {
    let digest = Sha256::digest(format!("{seed}\0{}", parts.join("\0")));
    u64::from_le_bytes(digest[..8].try_into().expect("32 bytes"))
}

/// Something that answers conversations.
pub trait AnswerSource {
    /// Why it could not.
    type Error;

    /// Answers the queries in whatever order and tells `done` of each, by its place, as soon as it is there; `done` may
    /// go on with a query of the same place, the next turn of its conversation, or break it all off, which is what is
    /// returned then.
    ///
    /// # Errors
    /// If one of them cannot be answered; an empty answer is no error.
    fn answers(
        &mut self,
        queries: &[Query],
        done: &mut dyn FnMut(usize, Answer) -> ControlFlow<(), Option<Query>>,
    ) -> Result<ControlFlow<()>, Self::Error>;
}
