//! The tokenizer of a GGUF file, written as the documents of a Hugging Face directory.
//!
//! A GGUF file names its pre-tokenizer and leaves the rest to the reader. What each name means here is what
//! the model's own tokenizer.json does, which is where llama.cpp took the names from.

use serde_json::{Map, Value, json};

use crate::gguf::{GgufError, GgufFile};

use super::TokenizerError;

/// Token types of `tokenizer.ggml.token_type` that are matched whole in a text.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// How Llama 3 cuts text before merging, as its tokenizer.json states it.
const LLAMA3_SPLIT: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// What a value of `tokenizer.ggml.pre` stands for.
struct PreTokenizer {
    steps: Value,
    /// A word that is in the vocabulary is one token, whatever the merges say.
    ignore_merges: bool,
    /// Whether a text begins with BOS where the file does not say.
    add_bos: bool,
}

fn pre_tokenizer(name: &str) -> Option<PreTokenizer> {
    let byte_level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let (steps, llama3) = match name {
        "gpt-2" | "default" => (byte_level(true), false),
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            (json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true)]}), false)
        }
        "llama-bpe" | "llama3" | "llama-v3" => {
            let split = json!({"type": "Split", "pattern": {"Regex": LLAMA3_SPLIT}, "behavior": "Isolated", "invert": false});
            (json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]}), true)
        }
        _ => return None,
    };
    Some(PreTokenizer { steps, ignore_merges: llama3, add_bos: llama3 })
}

/// tokenizer.json and tokenizer_config.json from the file's metadata.
pub(super) fn files(file: &GgufFile) -> Result<Vec<(String, Vec<u8>)>, TokenizerError> {
    let unsupported = |key, found: &str, supported: &str| TokenizerError::Unsupported {
        path: file.path().into(),
        key,
        found: found.into(),
        supported: supported.into(),
    };
    let malformed = |reason: String| TokenizerError::Malformed { path: file.path().into(), reason };

    let model: &str = file.required("tokenizer.ggml.model")?;
    if model != "gpt2" {
        return Err(unsupported("tokenizer.ggml.model", model, "gpt2 (byte-level BPE)"));
    }
    let pre_name: &str = file.optional("tokenizer.ggml.pre")?.unwrap_or("default");
    let pre = pre_tokenizer(pre_name).ok_or_else(|| {
        unsupported("tokenizer.ggml.pre", pre_name, "llama-bpe (llama3, llama-v3), smollm, gpt-2 and default")
    })?;

    let tokens: Vec<&str> = file.required("tokenizer.ggml.tokens")?;
    let types: Vec<i64> = file.required("tokenizer.ggml.token_type")?;
    if types.len() != tokens.len() {
        return Err(malformed(format!("{} tokens, but {} token types", tokens.len(), types.len())));
    }
    let mut vocab = Map::new();
    for (id, token) in tokens.iter().enumerate() {
        if let Some(other) = vocab.insert(token.to_string(), id.into()) {
            return Err(malformed(format!("tokenizer.ggml.tokens: ids {other} and {id} are both `{token}`")));
        }
    }
    let merges = file
        .required::<Vec<&str>>("tokenizer.ggml.merges")?
        .into_iter()
        .map(|merge| match merge.split_once(' ') {
            Some((left, right)) => Ok(json!([left, right])),
            None => Err(malformed(format!("tokenizer.ggml.merges: `{merge}` does not hold two parts"))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let added: Vec<Value> = tokens
        .iter()
        .zip(&types)
        .enumerate()
        .filter(|(_, (_, kind))| matches!(**kind, CONTROL | USER_DEFINED))
        .map(|(id, (token, kind))| {
            json!({
                "id": id, "content": token, "special": *kind == CONTROL, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            })
        })
        .collect();

    let mut config = special_tokens(file, &tokens)?;
    let add_bos = file.optional("tokenizer.ggml.add_bos_token")?.unwrap_or(pre.add_bos);
    let add_eos = file.optional("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    config.insert("add_bos_token".into(), (add_bos && config.contains_key("bos_token")).into());
    config.insert("add_eos_token".into(), (add_eos && config.contains_key("eos_token")).into());
    config.insert("clean_up_tokenization_spaces".into(), false.into());
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    if let Some(length) = context_length(file)? {
        config.insert("model_max_length".into(), length.into());
    }
    if let Some(template) = file.optional::<&str>("tokenizer.chat_template")? {
        config.insert("chat_template".into(), template.into());
    }

    let document = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": pre.steps, "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": pre.ignore_merges, "vocab": vocab, "merges": merges,
        },
    });
    let files = [("tokenizer.json", document), ("tokenizer_config.json", Value::Object(config))];
    Ok(files.map(|(name, document)| (name.to_owned(), format!("{document:#}\n").into_bytes())).into())
}

/// The named special tokens, by transformers' names.
fn special_tokens(file: &GgufFile, tokens: &[&str]) -> Result<Map<String, Value>, TokenizerError> {
    let mut named = Map::new();
    for (name, key) in [
        ("bos_token", "tokenizer.ggml.bos_token_id"),
        ("eos_token", "tokenizer.ggml.eos_token_id"),
        ("unk_token", "tokenizer.ggml.unknown_token_id"),
        ("pad_token", "tokenizer.ggml.padding_token_id"),
    ] {
        let Some(id) = file.optional::<u32>(key)? else {
            continue;
        };
        let token = tokens.get(id as usize).ok_or_else(|| TokenizerError::Malformed {
            path: file.path().into(),
            reason: format!("{key} is {id}, but there are {} tokens", tokens.len()),
        })?;
        named.insert(name.into(), Value::from(*token));
    }
    Ok(named)
}

fn context_length(file: &GgufFile) -> Result<Option<u64>, GgufError> {
    match file.optional::<&str>("general.architecture")? {
        Some(architecture) => file.optional(&format!("{architecture}.context_length")),
        None => Ok(None),
    }
}
