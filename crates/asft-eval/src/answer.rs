//! Where answers to be evaluated come from.

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// How an answer's tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token each time.
    pub temperature: f64,
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
    /// It was cut at [`Sampling::max_new_tokens`].
    MaxTokens,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its text without end-of-turn tokens.
    pub text: String,
    /// Its length in the model's own tokens.
    pub tokens: usize,
    /// Why it ended.
    pub stop: StopReason,
}

/// Something that answers conversations.
pub trait AnswerSource {
    /// Why it could not.
    type Error: std::error::Error;

    /// Answers each conversation, which ends with a user's turn, in the order given.
    ///
    /// # Errors
    /// If any of them cannot be answered; an empty answer is no error.
    fn answers(
        &mut self,
        conversations: &[Vec<Turn>],
        sampling: &Sampling,
    ) -> Result<Vec<Answer>, Self::Error>;
}
