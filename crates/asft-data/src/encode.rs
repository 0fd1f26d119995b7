//! Token ids of a pair: the prompt once, and what each answer adds to it.

pub(crate) mod words;

use crate::{
    Message, Origin, PreferenceRow, Tokenizer,
    template::{ResolvedTemplate, TemplateError},
    tokenizer::TokenizerError,
};

/// A pair as token ids, prompt stored once.
///
/// `chosen` and `rejected` hold template(prompt + answer) minus template(prompt with generation header),
/// end-of-turn tokens included: exactly the tokens that are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPair {
    /// Where the row was read.
    pub origin: Origin,
    /// Token ids of the rendered prompt with its generation header; never empty.
    pub prompt: Vec<u32>,
    /// Token ids of the preferred answer; never empty.
    pub chosen: Vec<u32>,
    /// Token ids of the dispreferred answer; empty only for SFT rows.
    pub rejected: Vec<u32>,
}

/// Why a row cannot be turned into token ids.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "`origin` is the row and `side` is chosen or rejected; the rest is documented"
)]
pub enum EncodeError {
    /// The chat template fails on the row.
    #[error("{origin}: {source}")]
    Template { origin: Origin, source: TemplateError },
    /// The tokenizer fails on the row.
    #[error("{origin}: {source}")]
    Tokenizer { origin: Origin, source: TokenizerError },
    /// The tokens of the prompt are not the first tokens of prompt and answer.
    #[error(
        "{origin}: the tokenized prompt is not a prefix of prompt and {side} answer: token {position} is {} alone, {} with the answer\nhint: {hint}",
        quoted(alone),
        quoted(with_answer)
    )]
    NotAPrefix {
        origin: Origin,
        side: &'static str,
        /// 0-based index of the first token that differs.
        position: usize,
        /// That token in the prompt alone.
        alone: Option<String>,
        /// The token at its place in prompt and answer; `None` if there is none.
        with_answer: Option<String>,
        /// What can be done.
        hint: &'static str,
    },
    /// Nothing of the answer would be scored.
    #[error("{origin}: the {side} answer has no tokens")]
    EmptyAnswer { origin: Origin, side: &'static str },
    /// The prompt has no token to predict the answer's first one from.
    #[error(
        "{origin}: the prompt has no tokens\nhint: without a template, an empty prompt needs a tokenizer that adds a BOS token"
    )]
    EmptyPrompt { origin: Origin },
    /// A conversation, but no template to write it with.
    #[error(
        "{origin}: {part} has {messages} messages, and data.template = \"none\" takes only plain text\nhint: set data.template to \"model\" or a template file"
    )]
    Conversation {
        origin: Origin,
        /// Prompt, chosen or rejected.
        part: &'static str,
        /// How many it has.
        messages: usize,
    },
    /// No token to end a raw answer with.
    #[error(
        "{origin}: data.template = \"none\" ends answers with the EOS token, and the tokenizer has none\nhint: set `eos_token` in tokenizer_config.json"
    )]
    NoEos { origin: Origin },
}

const TEXT_DIFFERS: &str = "the chat template writes the prompt differently when an answer follows; \
    set data.template to one that writes it the same way";
const TOKENS_MERGE: &str = "the end of the prompt merges with the start of the answer into other tokens; \
    end the prompt on a token boundary, without trailing spaces";
const EOS_ADDED: &str =
    "the tokenizer puts an EOS token after every text; set `add_eos_token` to false in tokenizer_config.json";

fn quoted(token: &Option<String>) -> String {
    token.as_ref().map_or_else(|| "missing".into(), |token| format!("`{}`", token.escape_debug()))
}

impl Tokenizer {
    /// Token ids of a row.
    ///
    /// With a chat template: prompt and generation header, and what prompt and answer add to it, each encoded
    /// as one text without added special tokens. Without one, as TRL treats plain text: the prompt with the
    /// tokenizer's own special tokens, and answers that end with the EOS token.
    ///
    /// # Errors
    /// Where TRL warns that the tokenized prompt is not a prefix and drops its end, this is an error: the
    /// model would be trained on a context that it never sees.
    pub fn encode_pair(
        &self,
        row: &PreferenceRow,
        template: &ResolvedTemplate,
    ) -> Result<EncodedPair, EncodeError> {
        let prompt = self.encode_context(&row.origin, &row.prompt, template)?;
        let chosen = self.encode_answer(row, template, &prompt, "chosen", &row.chosen)?;
        let rejected = match &row.rejected {
            Some(rejected) => self.encode_answer(row, template, &prompt, "rejected", rejected)?,
            None => vec![],
        };
        Ok(EncodedPair { origin: row.origin.clone(), prompt: prompt.ids, chosen, rejected })
    }

    /// Token ids of a conversation that is to be answered, with the header of the answer; what [`Self::encode_pair`]
    /// makes of a row's prompt.
    ///
    /// # Errors
    /// If the template refuses it, or it has no token.
    pub fn encode_prompt(
        &self,
        origin: &Origin,
        prompt: &[Message],
        template: &ResolvedTemplate,
    ) -> Result<Vec<u32>, EncodeError> {
        Ok(self.encode_context(origin, prompt, template)?.ids)
    }

    fn encode_context(
        &self,
        origin: &Origin,
        prompt: &[Message],
        template: &ResolvedTemplate,
    ) -> Result<Encoded, EncodeError> {
        let prompt = match template {
            ResolvedTemplate::Chat { template, options } => {
                let text = template
                    .render(prompt, true, options)
                    .map_err(|source| EncodeError::Template { origin: origin.clone(), source })?;
                self.encode_text(origin, text, false)?
            }
            ResolvedTemplate::Raw => {
                self.encode_text(origin, plain(origin, "the prompt", prompt)?.into(), true)?
            }
        };
        match prompt.ids.is_empty() {
            true => Err(EncodeError::EmptyPrompt { origin: origin.clone() }),
            false => Ok(prompt),
        }
    }

    fn encode_answer(
        &self,
        row: &PreferenceRow,
        template: &ResolvedTemplate,
        prompt: &Encoded,
        side: &'static str,
        answer: &[Message],
    ) -> Result<Vec<u32>, EncodeError> {
        let origin = &row.origin;
        let whole = match template {
            ResolvedTemplate::Chat { template, options } => {
                let conversation = [&row.prompt, answer].concat();
                let text = template
                    .render(&conversation, false, options)
                    .map_err(|source| EncodeError::Template { origin: origin.clone(), source })?;
                self.encode_text(origin, text, false)?
            }
            ResolvedTemplate::Raw => {
                let eos = self.eos_token().ok_or_else(|| EncodeError::NoEos { origin: origin.clone() })?;
                let answer = plain(origin, side, answer)?;
                let end = if answer.ends_with(&eos.text) { "" } else { &eos.text };
                self.encode_text(origin, format!("{}{answer}{end}", prompt.text), true)?
            }
        };
        let Some(added) = whole.ids.strip_prefix(prompt.ids.as_slice()) else {
            return Err(self.not_a_prefix(origin, side, prompt, &whole));
        };
        match added.is_empty() {
            true => Err(EncodeError::EmptyAnswer { origin: origin.clone(), side }),
            false => Ok(added.to_vec()),
        }
    }

    fn encode_text(&self, origin: &Origin, text: String, special: bool) -> Result<Encoded, EncodeError> {
        match self.encode(&text, special) {
            Ok(ids) => Ok(Encoded { text, ids }),
            Err(source) => Err(EncodeError::Tokenizer { origin: origin.clone(), source }),
        }
    }

    fn not_a_prefix(
        &self,
        origin: &Origin,
        side: &'static str,
        prompt: &Encoded,
        whole: &Encoded,
    ) -> EncodeError {
        let position = prompt.ids.iter().zip(&whole.ids).take_while(|(alone, with)| alone == with).count();
        let token = |ids: &[u32]| ids.get(position).and_then(|&id| self.token(id));
        let eos = self.eos_token().map(|token| token.id);
        let hint = match whole.text.starts_with(&prompt.text) {
            false => TEXT_DIFFERS,
            true if position + 1 == prompt.ids.len() && prompt.ids.last().copied() == eos => EOS_ADDED,
            true => TOKENS_MERGE,
        };
        let (alone, with_answer) = (token(&prompt.ids), token(&whole.ids));
        EncodeError::NotAPrefix { origin: origin.clone(), side, position, alone, with_answer, hint }
    }
}

/// A text and its token ids.
struct Encoded {
    text: String,
    ids: Vec<u32>,
}

/// The text of the only message.
fn plain<'a>(origin: &Origin, part: &'static str, messages: &'a [Message]) -> Result<&'a str, EncodeError> {
    match messages {
        [message] => Ok(&message.content),
        _ => Err(EncodeError::Conversation { origin: origin.clone(), part, messages: messages.len() }),
    }
}

#[cfg(test)]
mod tests;
