//! Chat templates: messages in, the text a model was trained on out, byte for byte as transformers renders it.

mod json;
mod python;

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, syntax::SyntaxConfig};
use serde::{Deserialize, Serialize};
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};
use tracing::warn;

use crate::{Message, Tokenizer};

const NAME: &str = "chat_template";

/// A compiled chat template with the special tokens it may name; cheap to clone.
#[derive(Clone)]
pub struct ChatTemplate(Arc<Inner>);

struct Inner {
    source: String,
    special_tokens: BTreeMap<String, String>,
    environment: Environment<'static>,
}

/// What a rendering may depend on besides the messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RenderOptions {
    /// What `strftime_now` tells, at midnight. `None` is the present: the local time, or UTC where the local
    /// offset cannot be found. Set it, and renderings repeat on every day.
    pub date: Option<Date>,
    /// Further variables, as keyword arguments of transformers' `apply_chat_template`; `date_string` fixes
    /// the date of Llama 3.1 and 3.2 whatever `date` is.
    pub variables: BTreeMap<String, serde_json::Value>,
}

/// Why a chat template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The source is no template.
    #[error("the chat template does not compile, line {line}: {reason}")]
    Syntax {
        /// 1-based line of the template.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// The template itself refuses the messages (`raise_exception`).
    #[error("the chat template refuses these messages: {message}")]
    Raised {
        /// The template's words.
        message: String,
    },
    /// An expression of the template fails.
    #[error("the chat template fails at line {line}: {reason}")]
    Render {
        /// 1-based line of the template.
        line: usize,
        /// What the engine said.
        reason: String,
    },
    /// A template file that cannot be read.
    #[error("{}: the chat template cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The model has none.
    #[error(
        "{} has no chat template\nhint: set data.template to a template file, or to \"none\" for raw text", model.display()
    )]
    Absent {
        /// Where the tokenizer came from.
        model: PathBuf,
    },
    /// Not a date.
    #[error("`{text}` is no date\nhint: write it as YYYY-MM-DD")]
    Date {
        /// What was given.
        text: String,
    },
}

impl ChatTemplate {
    /// Compiles `source`; `special_tokens` (`bos_token`, `eos_token`, …) become variables of the template.
    pub fn new(source: &str, special_tokens: BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().map_err(syntax_error)?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        python::extend(&mut environment);
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", |message: &str| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message.into())))
        });
        environment.add_template_owned(NAME, python::source(source)).map_err(syntax_error)?;
        Ok(Self(Arc::new(Inner { source: source.into(), special_tokens, environment })))
    }

    /// The source as it was given.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Renders a conversation, with the header of the answer to come if `add_generation_prompt`.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        options: &RenderOptions,
    ) -> Result<String, TemplateError> {
        let inner = &*self.0;
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| {
                Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
            })
            .collect();
        let now = options.now();
        let strftime = Value::from_function(move |format: &str| python::strftime(now, format));
        let mut variables: BTreeMap<&str, Value> = inner
            .special_tokens
            .iter()
            .map(|(name, token)| (name.as_str(), Value::from(token.as_str())))
            .collect();
        // transformers always passes these two, as None where the caller gives nothing.
        variables.insert("tools", Value::from(()));
        variables.insert("documents", Value::from(()));
        variables.insert("strftime_now", strftime);
        variables
            .extend(options.variables.iter().map(|(name, value)| (name.as_str(), json::to_value(value))));
        variables.insert("messages", Value::from(messages));
        variables.insert("add_generation_prompt", Value::from(add_generation_prompt));
        let template = inner.environment.get_template(NAME).map_err(syntax_error)?;
        template.render(Value::from_pairs(variables)).map_err(render_error)
    }
}

impl ChatTemplate {
    fn ignores_generation_prompt(&self, options: &RenderOptions) -> bool {
        let question = [Message::new("user", "?")];
        // A template that refuses this conversation says so when it meets the data.
        matches!(
            (self.render(&question, false, options), self.render(&question, true, options)),
            (Ok(without), Ok(with)) if without == with
        )
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source()).finish_non_exhaustive()
    }
}

impl RenderOptions {
    fn now(&self) -> PrimitiveDateTime {
        match self.date {
            Some(date) => PrimitiveDateTime::new(date, Time::MIDNIGHT),
            None => {
                let now = OffsetDateTime::now_local().unwrap_or_else(|_| OffsetDateTime::now_utc());
                PrimitiveDateTime::new(now.date(), now.time())
            }
        }
    }
}

/// The current day as [`parse_date`] reads it.
pub fn today() -> String {
    let date = RenderOptions::default().now().date();
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

/// A date written as `YYYY-MM-DD`, for [`RenderOptions::date`].
pub fn parse_date(text: &str) -> Result<Date, TemplateError> {
    let mut parts = text.splitn(3, '-');
    let mut number = |digits: usize| {
        let part =
            parts.next().filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))?;
        part.parse::<u16>().ok()
    };
    let date = number(4).zip(number(2)).zip(number(2)).and_then(|((year, month), day)| {
        let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
        Date::from_calendar_date(year.into(), month, u8::try_from(day).ok()?).ok()
    });
    date.ok_or_else(|| TemplateError::Date { text: text.into() })
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn syntax_error(error: Error) -> TemplateError {
    TemplateError::Syntax { line: error.line().unwrap_or(0), reason: reason(&error) }
}

fn render_error(error: Error) -> TemplateError {
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return TemplateError::Raised { message: message.clone() };
        }
        source = inner.source();
    }
    TemplateError::Render { line: error.line().unwrap_or(0), reason: reason(&error) }
}

fn reason(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// Which template renders a data set: the key `data.template`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum TemplateChoice {
    /// The model's own.
    #[default]
    Model,
    /// None: prompts and answers are raw text.
    None,
    /// The template in this file.
    File(PathBuf),
}

impl From<String> for TemplateChoice {
    fn from(text: String) -> Self {
        match text.as_str() {
            "model" => Self::Model,
            "none" => Self::None,
            _ => Self::File(text.into()),
        }
    }
}

impl FromStr for TemplateChoice {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(text.to_owned()))
    }
}

impl From<TemplateChoice> for String {
    fn from(choice: TemplateChoice) -> Self {
        match choice {
            TemplateChoice::Model => "model".into(),
            TemplateChoice::None => "none".into(),
            TemplateChoice::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl TemplateChoice {
    /// Finds and compiles the template this names, for a given tokenizer.
    pub fn resolve(
        &self,
        tokenizer: &Tokenizer,
        options: RenderOptions,
    ) -> Result<ResolvedTemplate, TemplateError> {
        let template = match self {
            Self::None => return Ok(ResolvedTemplate::Raw),
            Self::Model => tokenizer
                .template()
                .cloned()
                .ok_or_else(|| TemplateError::Absent { model: tokenizer.source().into() })?,
            Self::File(path) => ChatTemplate::new(&read(path)?, tokenizer.special_tokens().clone())?,
        };
        if template.ignores_generation_prompt(&options) {
            warn!(
                "the chat template writes the header of a further answer after every conversation, as templates of \
                 base models do: it will be scored as part of each answer; data.template can name another"
            );
        }
        Ok(ResolvedTemplate::Chat { template, options })
    }
}

fn read(path: &Path) -> Result<String, TemplateError> {
    fs::read_to_string(path).map_err(|source| TemplateError::Io { path: path.into(), source })
}

/// How rows become text: what [`TemplateChoice`] means for one tokenizer.
#[derive(Clone, Debug)]
pub enum ResolvedTemplate {
    /// Through a chat template.
    Chat {
        /// The template.
        template: ChatTemplate,
        /// Its variables and date.
        options: RenderOptions,
    },
    /// As they are.
    Raw,
}

#[cfg(test)]
mod tests;
