//! The parts of tokenizer_config.json, special_tokens_map.json and generation_config.json that matter here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use tokenizers::AddedToken;

use super::{SamplingDefaults, added_token};

/// The special tokens transformers knows by name and hands to chat templates.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

#[derive(Debug, Default, Deserialize)]
pub(super) struct TokenizerConfig {
    pub add_bos_token: Option<bool>,
    pub add_eos_token: Option<bool>,
    chat_template: Option<Templates>,
    #[serde(default)]
    added_tokens_decoder: BTreeMap<u32, AddedToken>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    unk_token: Option<Token>,
    sep_token: Option<Token>,
    pad_token: Option<Token>,
    cls_token: Option<Token>,
    mask_token: Option<Token>,
}

/// A special token, as its text or as an object that holds it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Object { content: String },
}

/// One template, or several by name of which `default` is for conversations without tools.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Debug, Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl TokenizerConfig {
    /// Parses either file; unknown keys are other programs' business.
    pub fn parse(bytes: &[u8]) -> serde_json::Result<Self> {
        // serde_json reads integer keys only at the outermost level of a typed read, hence the value between.
        serde_json::from_slice::<Value>(bytes).and_then(serde_json::from_value)
    }

    fn named(&self) -> [&Option<Token>; 7] {
        let Self { bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token, .. } = self;
        [bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token]
    }

    /// Takes the named tokens of special_tokens_map.json that this file does not have.
    pub fn add_special_tokens_of(&mut self, map: Self) {
        self.bos_token = self.bos_token.take().or(map.bos_token);
        self.eos_token = self.eos_token.take().or(map.eos_token);
        self.unk_token = self.unk_token.take().or(map.unk_token);
        self.sep_token = self.sep_token.take().or(map.sep_token);
        self.pad_token = self.pad_token.take().or(map.pad_token);
        self.cls_token = self.cls_token.take().or(map.cls_token);
        self.mask_token = self.mask_token.take().or(map.mask_token);
    }

    /// The named special tokens by name.
    pub fn special_tokens(&self) -> BTreeMap<String, String> {
        let named = NAMED.iter().zip(self.named());
        named
            .filter_map(|(name, token)| match token.as_ref()? {
                Token::Text(text) | Token::Object { content: text } => Some((name.to_string(), text.clone())),
            })
            .collect()
    }

    /// The template for conversations without tools.
    pub fn chat_template(&self) -> Option<String> {
        match self.chat_template.as_ref()? {
            Templates::One(template) => Some(template.clone()),
            Templates::Named(all) => all.iter().find(|t| t.name == "default").map(|t| t.template.clone()),
        }
    }

    /// Whether transformers replaces the post-processor of tokenizer.json.
    pub fn rewrites_post_processor(&self) -> bool {
        self.add_bos_token.is_some() || self.add_eos_token.is_some()
    }

    /// Adds what the configuration names and tokenizer.json lacks, as transformers does.
    pub fn add_tokens_to(
        &self,
        tokenizer: &mut tokenizers::Tokenizer,
        special_tokens: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let known = tokenizer.get_added_tokens_decoder();
        let described = self.added_tokens_decoder.iter().filter(|(id, _)| !known.contains_key(id));
        for (&id, token) in described {
            let added = match token.special {
                true => tokenizer.add_special_tokens([token.clone()]),
                false => tokenizer.add_tokens([token.clone()]),
            };
            added.map_err(|error| error.to_string())?;
            let got = tokenizer.token_to_id(&token.content);
            if got != Some(id) {
                let got = got.map_or_else(|| "none".into(), |got| got.to_string());
                return Err(format!(
                    "added token `{}` should have id {id}, tokenizer.json gives it {got}",
                    token.content
                ));
            }
        }
        let known = tokenizer.get_added_tokens_decoder();
        for token in special_tokens.values() {
            if !known.values().any(|other| other.content == *token) {
                tokenizer
                    .add_special_tokens([added_token(token, true)])
                    .map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

/// generation_config.json.
#[derive(Debug, Default, Deserialize)]
pub(super) struct GenerationConfig {
    eos_token_id: Option<Ids>,
    top_k: Option<usize>,
    top_p: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

impl GenerationConfig {
    pub fn sampling(&self) -> SamplingDefaults {
        SamplingDefaults { top_k: self.top_k, top_p: self.top_p }
    }

    pub fn end_of_turn_ids(self) -> BTreeSet<u32> {
        match self.eos_token_id {
            Some(Ids::One(id)) => [id].into(),
            Some(Ids::Many(ids)) => ids.into_iter().collect(),
            None => BTreeSet::new(),
        }
    }
}
