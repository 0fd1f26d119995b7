//! The layouts preference files come in, found out from the first rows or named by the user.

mod alpaca;
mod fields;
mod hh_rlhf;
mod sharegpt;
mod trl;
mod ultrafeedback;

use std::{collections::VecDeque, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::fields::Fields;
use crate::{
    DataError, Message, Origin, PreferenceRow,
    dataset::DropReason,
    read::{self, Row, Rows, Source},
};

/// Rows looked at before a layout is decided on.
const ROWS_TO_DETECT: usize = 16;

/// A layout of preference (or demonstration) rows, by the names `data.format` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schema {
    /// TRL, standard: strings `prompt`, `chosen`, `rejected`.
    Trl,
    /// TRL, conversational, explicit prompt: message lists `prompt`, `chosen`, `rejected`.
    TrlChat,
    /// TRL, conversational, implicit prompt: message lists `chosen`, `rejected` that begin alike.
    TrlChatImplicit,
    /// UltraFeedback binarized: string `prompt`, message lists `chosen`, `rejected` that begin with it.
    Ultrafeedback,
    /// LLaMA-Factory ShareGPT ranking: `conversations`, and `chosen`, `rejected` as `{from, value}`.
    Sharegpt,
    /// LLaMA-Factory Alpaca ranking: strings `instruction`, `input`, `chosen`, `rejected`.
    AlpacaRanking,
    /// Anthropic HH-RLHF: whole transcripts `chosen`, `rejected`.
    HhRlhf,
    /// Alpaca demonstrations: strings `instruction`, `input`, `output`; no rejected answer.
    Alpaca,
}

/// What a row becomes.
#[derive(Clone, Debug, PartialEq)]
pub enum Converted {
    /// A row in the one form that all layouts share.
    Row(PreferenceRow),
    /// A well-formed row that cannot be trained on.
    Dropped {
        /// Why.
        reason: DropReason,
        /// Scores of (chosen, rejected) where the row has them.
        scores: Option<(f64, f64)>,
    },
}

impl Schema {
    /// Every layout.
    pub const ALL: [Self; 8] = [
        Self::Trl,
        Self::TrlChat,
        Self::TrlChatImplicit,
        Self::Ultrafeedback,
        Self::Sharegpt,
        Self::AlpacaRanking,
        Self::HhRlhf,
        Self::Alpaca,
    ];

    /// The name in configurations and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trl => "trl",
            Self::TrlChat => "trl-chat",
            Self::TrlChatImplicit => "trl-chat-implicit",
            Self::Ultrafeedback => "ultrafeedback",
            Self::Sharegpt => "sharegpt",
            Self::AlpacaRanking => "alpaca-ranking",
            Self::HhRlhf => "hh-rlhf",
            Self::Alpaca => "alpaca",
        }
    }

    /// Its keys, in words.
    pub fn keys(self) -> &'static str {
        match self {
            Self::Trl => "`prompt`, `chosen`, `rejected` (strings)",
            Self::TrlChat => "`prompt`, `chosen`, `rejected` (lists of {role, content})",
            Self::TrlChatImplicit => {
                "`chosen`, `rejected` (lists of {role, content} that begin with the same turns)"
            }
            Self::Ultrafeedback => {
                "`prompt` (string), `chosen`, `rejected` (lists of {role, content} that begin with it)"
            }
            Self::Sharegpt => {
                "`conversations` (list of {from, value}), `chosen`, `rejected` ({from, value}), optionally `system`"
            }
            Self::AlpacaRanking => {
                "`instruction`, `chosen`, `rejected` (strings), optionally `input`, `system`, `history`"
            }
            Self::HhRlhf => "`chosen`, `rejected` (transcripts with Human: and Assistant: turns)",
            Self::Alpaca => "`instruction`, `output` (strings), optionally `input`, `system`, `history`",
        }
    }

    /// The layout of one row, from which keys it has and what types they are.
    ///
    /// # Errors
    /// If it is none, naming the keys found and the layouts known.
    pub fn detect(origin: &Origin, row: &Map<String, Value>) -> Result<Self, DataError> {
        let has = |key: &str| row.get(key).is_some_and(|value| !value.is_null());
        let string = |key: &str| row.get(key).is_some_and(Value::is_string);
        let list = |key: &str| row.get(key).is_some_and(Value::is_array);
        let unknown = |hint| {
            let found = row.keys().cloned().collect();
            Err(DataError::UnknownSchema { origin: origin.clone(), found, hint, known: known() })
        };
        if !has("chosen") && !has("rejected") {
            return match () {
                () if has("label") && (has("messages") || has("completion")) => unknown(
                    "rows with a `label` are unpaired feedback (KTO); asft needs pairs, so join two answers to one prompt as `chosen` and `rejected`",
                ),
                () if has("instruction") && has("output") => Ok(Self::Alpaca),
                () => unknown("name the two answers of a prompt `chosen` and `rejected`"),
            };
        }
        match () {
            () if has("conversations") => Ok(Self::Sharegpt),
            () if has("instruction") => Ok(Self::AlpacaRanking),
            () if list("prompt") => Ok(Self::TrlChat),
            () if string("prompt") && (list("chosen") || list("rejected")) => Ok(Self::Ultrafeedback),
            () if string("prompt") => Ok(Self::Trl),
            () if has("prompt") => unknown("`prompt` must be a string or a list of messages"),
            () if list("chosen") || list("rejected") => Ok(Self::TrlChatImplicit),
            () if hh_rlhf::is_transcript(row) => Ok(Self::HhRlhf),
            () => unknown("put what both answers reply to in a key `prompt`"),
        }
    }

    /// Reads `row` by this layout.
    ///
    /// # Errors
    /// If a key is missing or of another type than the layout says.
    pub fn convert(self, origin: Origin, row: &Map<String, Value>) -> Result<Converted, DataError> {
        let fields = Fields { origin: &origin, schema: self, row };
        let scores = fields.scores();
        let answers = match self {
            Self::Trl => trl::strings(&fields),
            Self::TrlChat => trl::explicit_prompt(&fields),
            Self::TrlChatImplicit => trl::implicit_prompt(&fields),
            Self::Ultrafeedback => ultrafeedback::answers(&fields),
            Self::Sharegpt => sharegpt::answers(&fields),
            Self::AlpacaRanking => alpaca::ranking(&fields),
            Self::HhRlhf => hh_rlhf::answers(&fields),
            Self::Alpaca => alpaca::demonstration(&fields),
        }?;
        Ok(match answers.and_then(Answers::checked) {
            Ok(Answers { prompt, chosen, rejected }) => {
                Converted::Row(PreferenceRow { origin, prompt, chosen, rejected, scores })
            }
            Err(reason) => Converted::Dropped { reason, scores },
        })
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn known() -> String {
    let lines = Schema::ALL.map(|schema| format!("  {}: {}", schema.name(), schema.keys()));
    lines.join("\n")
}

/// What a layout gets out of a row, or why the row is of no use.
type Extracted = Result<Result<Answers, DropReason>, DataError>;

/// A conversation with the answers to it.
#[derive(Debug)]
struct Answers {
    prompt: Vec<Message>,
    chosen: Vec<Message>,
    rejected: Option<Vec<Message>>,
}

impl Answers {
    /// What must hold whatever the layout: something to answer, its last turn not an answer already, and
    /// text in both answers, which end with the assistant's turn.
    fn checked(self) -> Result<Self, DropReason> {
        let blank = |messages: &[Message]| messages.iter().all(|message| is_blank(&message.content));
        if blank(&self.prompt) {
            return Err(DropReason::EmptyPrompt);
        }
        if self.prompt.last().is_some_and(|message| message.role == "assistant") {
            return Err(DropReason::RolesDoNotAlternate);
        }
        let open = |answer: &[Message]| answer.last().is_some_and(|message| message.role != "assistant");
        if open(&self.chosen) || self.rejected.as_deref().is_some_and(open) {
            return Err(DropReason::RolesDoNotAlternate);
        }
        if blank(&self.chosen) {
            return Err(DropReason::EmptyChosen);
        }
        match &self.rejected {
            Some(rejected) if blank(rejected) => Err(DropReason::EmptyRejected),
            Some(rejected) if *rejected == self.chosen => Err(DropReason::Identical),
            _ => Ok(self),
        }
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// `data.format`: a layout by name, or `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Format {
    /// Found out for each file from its first rows.
    #[default]
    Auto,
    /// This layout, whatever the rows look like.
    Named(Schema),
}

impl FromStr for Format {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        if name == "auto" {
            return Ok(Self::Auto);
        }
        if let Some(schema) = Schema::ALL.into_iter().find(|schema| schema.name() == name) {
            return Ok(Self::Named(schema));
        }
        let names: Vec<_> = ["auto"].into_iter().chain(Schema::ALL.map(Schema::name)).collect();
        let suggested = names
            .iter()
            .copied()
            .filter(|known| strsim::jaro_winkler(known, name) > 0.8)
            .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
        Err(DataError::UnknownFormat { found: name.to_owned(), suggested, known: names.join(", ") })
    }
}

impl TryFrom<String> for Format {
    type Error = DataError;

    fn try_from(name: String) -> Result<Self, DataError> {
        name.parse()
    }
}

impl From<Format> for String {
    fn from(format: Format) -> Self {
        match format {
            Format::Auto => "auto".to_owned(),
            Format::Named(schema) => schema.name().to_owned(),
        }
    }
}

/// The rows of one file in the form all layouts share; nothing follows an error.
pub struct SchemaRows {
    schema: Schema,
    ahead: VecDeque<Row>,
    rows: Rows,
    failed: bool,
}

impl SchemaRows {
    /// Opens `source` and decides on its layout.
    ///
    /// # Errors
    /// If it cannot be read, has no rows, or with [`Format::Auto`] its first rows are of no known layout or
    /// of two.
    pub fn open(source: &Source, format: Format) -> Result<Self, DataError> {
        let mut rows = read::open(source)?;
        let mut ahead = VecDeque::new();
        // An error further on is the business of whoever reads that far: it comes after the rows before it.
        let mut error = None;
        while ahead.len() < ROWS_TO_DETECT {
            match rows.next() {
                Some(Ok(row)) => ahead.push_back(row),
                Some(Err(found)) => {
                    error = Some(found);
                    break;
                }
                None => break,
            }
        }
        let Some((first, row)) = ahead.front() else {
            return Err(error.unwrap_or(DataError::NoRows { path: source.path().to_owned() }));
        };
        let schema = match format {
            Format::Named(schema) => schema,
            Format::Auto => Schema::detect(first, row)?,
        };
        if format == Format::Auto {
            for (origin, row) in &ahead {
                let found = Schema::detect(origin, row)?;
                if found != schema {
                    let (found, expected) = (found.name(), schema.name());
                    return Err(DataError::MixedSchemas { origin: origin.clone(), found, expected });
                }
            }
        }
        if let Some(error) = error {
            rows = Box::new(std::iter::once(Err(error)));
        }
        Ok(Self { schema, ahead, rows, failed: false })
    }

    /// The layout found or forced.
    pub fn schema(&self) -> Schema {
        self.schema
    }
}

impl Iterator for SchemaRows {
    type Item = Result<(Origin, Converted), DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let row = self.ahead.pop_front().map(Ok).or_else(|| self.rows.next())?;
        let converted = row.and_then(|(origin, row)| {
            let converted = self.schema.convert(origin.clone(), &row)?;
            Ok((origin, converted))
        });
        self.failed = converted.is_err();
        Some(converted)
    }
}

#[cfg(test)]
mod tests;
