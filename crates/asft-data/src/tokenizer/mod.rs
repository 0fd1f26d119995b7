//! The tokenizer of a model, with its special tokens and its chat template.
//!
//! Everything is loaded from the two documents of a Hugging Face directory, `tokenizer.json` and
//! `tokenizer_config.json`; for a GGUF file this module writes the same two from its metadata, so both ways
//! give one kind of tokenizer and one kind of export.

mod config;
mod gguf;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokenizers::{AddedToken, PostProcessorWrapper, processors::template::TemplateProcessing};

use crate::{
    ChatTemplate,
    encode::words::Words,
    gguf::{GgufError, GgufFile},
    template::TemplateError,
};
use config::{GenerationConfig, TokenizerConfig};

/// Tokens that end a turn or a document in Llama-3-family models, where the vocabulary has them.
const END_OF_TURN: [&str; 4] = ["<|eot_id|>", "<|im_end|>", "<|end_of_text|>", "<|eom_id|>"];

/// Files of a Hugging Face directory that belong to the tokenizer.
const FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
];

/// Text to token ids and back; cheap to clone.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    source: PathBuf,
    tokenizer: tokenizers::Tokenizer,
    words: Option<Words>,
    vocab_size: usize,
    special_tokens: BTreeMap<String, String>,
    end_of_turn: BTreeSet<u32>,
    sampling: SamplingDefaults,
    template: Option<ChatTemplate>,
    files: Vec<(String, Vec<u8>)>,
}

/// The sampling settings of a model's own, absent where it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplingDefaults {
    /// Only so many of the likeliest tokens; 0: all.
    pub top_k: Option<usize>,
    /// Only the smallest set of tokens with this much probability.
    pub top_p: Option<f64>,
}

/// See [`Tokenizer::decode_stream`].
pub struct TextStream<'a>(DecodeStream<'a>);

type DecodeStream<'a> = tokenizers::tokenizer::DecodeStream<
    'a,
    tokenizers::ModelWrapper,
    tokenizers::NormalizerWrapper,
    tokenizers::PreTokenizerWrapper,
    PostProcessorWrapper,
    tokenizers::DecoderWrapper,
>;

impl TextStream<'_> {
    /// The text that is certain with `id`, if any: bytes that are no whole character yet wait for the next.
    ///
    /// # Errors
    /// If the tokenizer library fails on it.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, TokenizerError> {
        self.0.step(id).map_err(run_error)
    }
}

/// A special token with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    /// The text that stands for it.
    pub text: String,
    /// Its id.
    pub id: u32,
}

/// Why a tokenizer cannot be loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file could not be read.
    #[error("{}: cannot be read: {source}\nhint: a tokenizer is a Hugging Face directory with tokenizer.json, or a .gguf file", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// The GGUF file is broken or lacks a key.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A GGUF tokenizer of another kind.
    #[error("{}: `{key}` is `{found}`, which this version cannot build\nhint: supported are {supported}; a Hugging Face directory with tokenizer.json loads whatever its kind", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The metadata key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What would work.
        supported: String,
    },
    /// The chat template does not compile.
    #[error("{}: {source}", path.display())]
    Template {
        /// The file or directory it is in.
        path: PathBuf,
        /// What is wrong.
        source: TemplateError,
    },
    /// The tokenizer library failed on a text or on ids.
    #[error("the tokenizer fails: {reason}")]
    Run {
        /// What the library said.
        reason: String,
    },
}

impl Tokenizer {
    /// Loads the tokenizer of a model: a Hugging Face directory or a GGUF file.
    pub fn from_model(path: &Path) -> Result<Self, TokenizerError> {
        if path.is_dir() {
            let mut files = vec![];
            for name in FILES {
                let path = path.join(name);
                match fs::read(&path) {
                    Ok(bytes) => files.push((name.to_owned(), bytes)),
                    Err(error) if error.kind() == ErrorKind::NotFound && name != FILES[0] => {}
                    Err(source) => return Err(TokenizerError::Io { path, source }),
                }
            }
            return Self::from_files(path, files);
        }
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
            let file = GgufFile::open(path)?;
            return Self::from_files(path, gguf::files(&file)?);
        }
        let kind = if path.exists() { ErrorKind::InvalidInput } else { ErrorKind::NotFound };
        Err(TokenizerError::Io { path: path.into(), source: kind.into() })
    }

    /// Loads a tokenizer held in memory: `tokenizer.json` and `tokenizer_config.json`; `name` stands for
    /// their directory in messages.
    pub fn from_json(name: &str, tokenizer_json: &[u8], config: &[u8]) -> Result<Self, TokenizerError> {
        let files = [(FILES[0], tokenizer_json), (FILES[1], config)];
        Self::from_files(Path::new(name), files.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).into())
    }

    fn from_files(source: &Path, files: Vec<(String, Vec<u8>)>) -> Result<Self, TokenizerError> {
        let file =
            |name: &str| files.iter().find(|(other, _)| other == name).map(|(_, bytes)| bytes.as_slice());
        let malformed =
            |name: &str, reason: String| TokenizerError::Malformed { path: source.join(name), reason };
        let parse = |error: serde_json::Error| error.to_string();

        let tokenizer_json = file(FILES[0]).unwrap_or_default();
        // The library indexes into what a damaged file may lack.
        let parsed = crate::guard::guarded(|| tokenizers::Tokenizer::from_bytes(tokenizer_json));
        let mut tokenizer = match parsed {
            Some(parsed) => parsed.map_err(|error| malformed(FILES[0], error.to_string()))?,
            None => {
                return Err(malformed(FILES[0], "is no tokenizer\nhint: fetch the file again".to_owned()));
            }
        };
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| malformed(FILES[0], error.to_string()))?;

        let mut config = match file("tokenizer_config.json") {
            Some(bytes) => {
                TokenizerConfig::parse(bytes).map_err(|e| malformed("tokenizer_config.json", parse(e)))?
            }
            None => TokenizerConfig::default(),
        };
        if let Some(bytes) = file("special_tokens_map.json") {
            let map =
                TokenizerConfig::parse(bytes).map_err(|e| malformed("special_tokens_map.json", parse(e)))?;
            config.add_special_tokens_of(map);
        }
        let special_tokens = config.special_tokens();
        config
            .add_tokens_to(&mut tokenizer, &special_tokens)
            .map_err(|reason| malformed("tokenizer_config.json", reason))?;
        if config.rewrites_post_processor() {
            let processor = post_processor(&tokenizer, &config, &special_tokens)
                .map_err(|reason| malformed("tokenizer_config.json", reason))?;
            tokenizer.with_post_processor(processor);
        }

        let generation: GenerationConfig = match file("generation_config.json") {
            Some(bytes) => {
                serde_json::from_slice(bytes).map_err(|e| malformed("generation_config.json", parse(e)))?
            }
            None => GenerationConfig::default(),
        };
        let sampling = generation.sampling();
        let mut end_of_turn = generation.end_of_turn_ids();
        let added = tokenizer.get_added_tokens_decoder();
        let eos = special_tokens.get("eos_token").map(String::as_str);
        end_of_turn.extend(eos.and_then(|token| tokenizer.token_to_id(token)));
        end_of_turn.extend(
            added
                .iter()
                .filter(|(_, t)| t.special && END_OF_TURN.contains(&t.content.as_str()))
                .map(|(&id, _)| id),
        );

        let template = match file("chat_template.jinja") {
            Some(bytes) => Some(
                String::from_utf8(bytes.to_vec())
                    .map_err(|error| malformed("chat_template.jinja", error.to_string()))?,
            ),
            None => config.chat_template(),
        };
        let template = template
            .map(|text| ChatTemplate::new(&text, special_tokens.clone()))
            .transpose()
            .map_err(|error| TokenizerError::Template { path: source.into(), source: error })?;

        let highest = tokenizer.get_vocab(true).values().max().copied();
        let vocab_size = highest.map_or(0, |id| id as usize + 1);
        let source = source.to_path_buf();
        Ok(Self(Arc::new(Inner {
            source,
            words: Words::of(&tokenizer),
            tokenizer,
            vocab_size,
            special_tokens,
            end_of_turn,
            sampling,
            template,
            files,
        })))
    }

    /// Token ids of a text. Special tokens written out in it become their ids; `add_special_tokens` adds
    /// those the tokenizer puts around every text, such as the BOS token.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TokenizerError> {
        let Inner { tokenizer, words, .. } = &*self.0;
        if let (Some(words), false) = (words, add_special_tokens) {
            return words.encode(tokenizer, text).map_err(run_error);
        }
        let encoding = tokenizer.encode_fast(text, add_special_tokens).map_err(run_error)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of token ids. Bytes that are no UTF-8 become U+FFFD; nothing else is cleaned up.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, TokenizerError> {
        self.0.tokenizer.decode(ids, skip_special_tokens).map_err(run_error)
    }

    /// The vocabulary entry of an id, in the vocabulary's spelling (`Ġ` for a leading space).
    pub fn token(&self, id: u32) -> Option<String> {
        self.0.tokenizer.id_to_token(id)
    }

    /// The highest token id plus one, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.0.vocab_size
    }

    /// The token a text begins with.
    pub fn bos_token(&self) -> Option<SpecialToken> {
        self.special_token("bos_token")
    }

    /// The token a text ends with.
    pub fn eos_token(&self) -> Option<SpecialToken> {
        self.special_token("eos_token")
    }

    /// The token batches are padded with elsewhere; nothing is padded here.
    pub fn pad_token(&self) -> Option<SpecialToken> {
        self.special_token("pad_token")
    }

    fn special_token(&self, name: &str) -> Option<SpecialToken> {
        let text = self.0.special_tokens.get(name)?.clone();
        Some(SpecialToken { id: self.0.tokenizer.token_to_id(&text)?, text })
    }

    /// The named special tokens (`bos_token`, `eos_token`, `unk_token`, `pad_token`, …) by name.
    pub fn special_tokens(&self) -> &BTreeMap<String, String> {
        &self.0.special_tokens
    }

    /// Whether an id is that of a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.0.tokenizer.get_added_vocabulary().is_special_token(&self.token(id).unwrap_or_default())
    }

    /// Ids at which generation stops: those of generation_config.json, the EOS token, and the end-of-turn
    /// tokens of Llama 3 and ChatML where the vocabulary has them as special tokens.
    pub fn end_of_turn_ids(&self) -> &BTreeSet<u32> {
        &self.0.end_of_turn
    }

    /// What generation_config.json says of sampling.
    pub fn sampling_defaults(&self) -> SamplingDefaults {
        self.0.sampling
    }

    /// Text of ids as they come, special tokens left out: each call gives what one more id makes certain.
    pub fn decode_stream(&self) -> TextStream<'_> {
        TextStream(self.0.tokenizer.decode_stream(true))
    }

    /// The model's chat template.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.0.template.as_ref()
    }

    /// Where it was loaded from.
    pub fn source(&self) -> &Path {
        &self.0.source
    }

    /// The files (name, bytes) with which transformers loads the same tokenizer from a directory: those of
    /// a Hugging Face directory as they are, for a GGUF file written from its metadata.
    pub fn files(&self) -> &[(String, Vec<u8>)] {
        &self.0.files
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("source", &self.0.source)
            .field("vocab_size", &self.0.vocab_size)
            .finish_non_exhaustive()
    }
}

fn run_error(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Run { reason: error.to_string() }
}

/// What transformers puts around a text where the configuration sets `add_bos_token` or `add_eos_token`.
fn post_processor(
    tokenizer: &tokenizers::Tokenizer,
    config: &TokenizerConfig,
    special_tokens: &BTreeMap<String, String>,
) -> Result<Option<PostProcessorWrapper>, String> {
    let wanted = |add: bool, name: &str| {
        special_tokens
            .get(name)
            .filter(|_| add)
            .and_then(|token| Some((token.clone(), tokenizer.token_to_id(token)?)))
    };
    let bos = wanted(config.add_bos_token == Some(true), "bos_token");
    let eos = wanted(config.add_eos_token == Some(true), "eos_token");
    if bos.is_none() && eos.is_none() {
        return Ok(None);
    }
    // Pieces as a list: a token's text may hold the spaces and colons of the string form.
    let piece = |token: &Option<(String, u32)>| {
        token
            .iter()
            .map(|(text, _)| serde_json::json!({"SpecialToken": {"id": text, "type_id": 0}}))
            .collect::<Vec<_>>()
    };
    let sequence = |id: &str| vec![serde_json::json!({"Sequence": {"id": id, "type_id": 0}})];
    let single = [piece(&bos), sequence("A"), piece(&eos)].concat();
    let pair = [single.clone(), piece(&bos), sequence("B"), piece(&eos)].concat();
    let tokens: serde_json::Map<_, _> = bos
        .iter()
        .chain(&eos)
        .map(|(text, id)| (text.clone(), serde_json::json!({"id": text, "ids": [id], "tokens": [text]})))
        .collect();
    let processor = serde_json::json!({"single": single, "pair": pair, "special_tokens": tokens});
    let processor: TemplateProcessing =
        serde_json::from_value(processor).map_err(|error| error.to_string())?;
    Ok(Some(processor.into()))
}

/// An added token as the configuration files describe it.
fn added_token(text: &str, special: bool) -> AddedToken {
    AddedToken::from(text, special).normalized(false)
}

#[cfg(test)]
pub(crate) mod tests;
