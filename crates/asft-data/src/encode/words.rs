//! Token ids of a text, remembered word by word.
//!
//! Byte-level BPE cuts a text by a regular expression and merges bytes within each piece only. At some places
//! every such expression that is known here must cut, and what follows a cut is matched as if the text began
//! there. So a text can be encoded stretch by stretch between such places, and since texts repeat their words,
//! most stretches have been encoded before. The tokenizer itself encodes the others, so the ids are its own.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use serde_json::Value;
use tokenizers::{Model, ModelWrapper, Tokenizer};

/// Pieces of GPT-2's expression, which `ByteLevel` has built in, and of Llama 3's: neither has a piece with a
/// letter before something else than a letter, nor one with a space behind something else than white space,
/// and neither looks ahead but behind white space.
const LLAMA3_SPLIT: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Parts of the memory, each behind a lock of its own.
const SHARDS: usize = 64;

/// Most stretches of a shard: with the longest words, all of them take less than 64 MB.
const SHARD_ENTRIES: usize = 1 << 12;

/// Bytes of the longest stretch that is remembered.
const LONGEST: usize = 64;

/// What one tokenizer makes of stretches of text.
pub(crate) struct Words {
    /// Added tokens by their first byte, 256 lists, the longest first.
    added: Vec<Vec<(String, u32)>>,
    shards: Vec<RwLock<Shard>>,
}

type Shard = HashMap<Box<str>, Box<[u32]>>;

impl Words {
    /// A memory for `tokenizer`, or `None` where its way of cutting texts is not one of those known.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let ModelWrapper::BPE(model) = tokenizer.get_model() else { return None };
        let steps = serde_json::to_value(tokenizer.get_pre_tokenizer()?).ok()?;
        let deterministic = model.dropout.is_none() && !tokenizer.get_encode_special_tokens();
        if !deterministic || tokenizer.get_normalizer().is_some() || !cuts_at_words(&steps) {
            return None;
        }
        let tokens = tokenizer.get_added_tokens_decoder();
        let mut added = vec![vec![]; 256];
        for (&id, token) in &tokens {
            // One pass finds them all only if none asks for more than its own text.
            if token.single_word || token.lstrip || token.rstrip || token.normalized {
                return None;
            }
            added[usize::from(*token.content.as_bytes().first()?)].push((token.content.clone(), id));
        }
        added.iter_mut().for_each(|tokens: &mut Vec<(String, u32)>| {
            tokens.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()))
        });
        Some(Self { added, shards: (0..SHARDS).map(|_| RwLock::default()).collect() })
    }

    /// Token ids of `text` without special tokens around it; `tokenizer` is the one of [`Self::of`].
    pub(crate) fn encode(&self, tokenizer: &Tokenizer, text: &str) -> tokenizers::Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 4);
        let (mut start, mut at) = (0, 0);
        while at < text.len() {
            match self.added_token(text, at) {
                Some((token, id)) => {
                    self.encode_stretches(tokenizer, &text[start..at], &mut ids)?;
                    ids.push(*id);
                    at += token.len();
                    start = at;
                }
                None => at += 1,
            }
        }
        self.encode_stretches(tokenizer, &text[start..], &mut ids)?;
        Ok(ids)
    }

    /// The longest added token at a byte of a text.
    fn added_token(&self, text: &str, at: usize) -> Option<&(String, u32)> {
        let rest = &text.as_bytes()[at..];
        self.added[usize::from(*rest.first()?)].iter().find(|(token, _)| rest.starts_with(token.as_bytes()))
    }

    fn encode_stretches(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        ids: &mut Vec<u32>,
    ) -> tokenizers::Result<()> {
        for stretch in stretches(text) {
            let shard = &self.shards[shard(stretch)];
            if let Some(known) = shard.read().unwrap_or_else(PoisonError::into_inner).get(stretch) {
                ids.extend_from_slice(known);
                continue;
            }
            let found = encode_stretch(tokenizer, stretch)?;
            ids.extend_from_slice(&found);
            if stretch.len() <= LONGEST {
                let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
                if shard.len() < SHARD_ENTRIES {
                    shard.insert(stretch.into(), found.into());
                }
            }
        }
        Ok(())
    }
}

fn encode_stretch(tokenizer: &Tokenizer, stretch: &str) -> tokenizers::Result<Vec<u32>> {
    let word = stretch.strip_prefix(' ').unwrap_or(stretch);
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Ok(tokenizer.encode_fast(stretch, false)?.get_ids().to_vec());
    }
    // One piece for every expression, so it can be merged at once. Byte-level BPE writes a space as Ġ.
    let tokens = tokenizer.get_model().tokenize(&stretch.replace(' ', "Ġ"))?;
    Ok(tokens.into_iter().map(|token| token.id).collect())
}

/// Whether pre-tokenizer steps cut at least where [`stretches`] does.
fn cuts_at_words(steps: &Value) -> bool {
    let steps = match steps["type"].as_str() {
        Some("Sequence") => steps["pretokenizers"].as_array().map(Vec::as_slice).unwrap_or_default(),
        _ => std::slice::from_ref(steps),
    };
    let byte_level = |step: &Value| step["type"] == "ByteLevel" && step["add_prefix_space"] == false;
    let split = |step: &Value| {
        step["type"] == "Split"
            && step["pattern"]["Regex"] == LLAMA3_SPLIT
            && step["behavior"] == "Isolated"
            && step["invert"] == false
    };
    let known = |step| byte_level(step) || split(step) || step["type"] == "Digits";
    let cuts = |step| split(step) || (byte_level(step) && step["use_regex"] == true);
    steps.iter().all(known) && steps.iter().any(byte_level) && steps.iter().any(cuts)
}

/// Cuts a text behind a letter that something else follows, and between anything but white space and a space
/// with a letter behind it, all of them ASCII.
fn stretches(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let is_cut = move |at: usize| {
        let (before, after) = (bytes[at - 1], bytes[at]);
        (before.is_ascii_alphabetic() && after.is_ascii() && !after.is_ascii_alphabetic())
            || (before.is_ascii_graphic()
                && after == b' '
                && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic))
    };
    let mut start = 0;
    std::iter::from_fn(move || {
        let begin = start;
        start = (begin + 1..bytes.len()).find(|&at| is_cut(at)).unwrap_or(bytes.len());
        (begin < bytes.len()).then(|| &text[begin..start])
    })
}

/// FNV-1a.
fn shard(stretch: &str) -> usize {
    let hash = stretch.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash >> 32) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn gpt2() -> Value {
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})
    }

    fn smollm() -> Value {
        json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, gpt2()]})
    }

    fn llama3() -> Value {
        let split = json!({"type": "Split", "pattern": {"Regex": LLAMA3_SPLIT}, "behavior": "Isolated", "invert": false});
        let mut bytes = gpt2();
        bytes["use_regex"] = false.into();
        json!({"type": "Sequence", "pretokenizers": [split, bytes]})
    }

    /// Every byte is a token, and everything that is often seen together merges: the ids show each cut.
    fn document(steps: Value) -> Value {
        let printable = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut letters: Vec<String> = printable.into_iter().map(String::from).collect();
        letters.sort();
        // Ġ is a space and Ċ a line feed.
        let common = ["a", "b", "s", "'", "Ġ", "Ċ", "1", ".", "<", "|", "Ã", "©"];
        let merges: Vec<[&str; 2]> =
            common.iter().flat_map(|left| common.iter().map(move |right| [*left, *right])).collect();
        letters.extend(merges.iter().map(|merge| merge.concat()));
        let vocab: serde_json::Map<_, _> =
            letters.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
        let added = |id: usize, text: &str| {
            json!({"id": id, "content": text, "special": true, "normalized": false,
                   "single_word": false, "lstrip": false, "rstrip": false})
        };
        let first = vocab.len();
        json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": [added(first, "<|a|>"), added(first + 1, "<|a|>b"), added(first + 2, "1 a")],
            "pre_tokenizer": steps, "post_processor": null, "decoder": null,
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                      "ignore_merges": false, "vocab": vocab, "merges": merges},
        })
    }

    fn tokenizer(document: &Value) -> Tokenizer {
        Tokenizer::from_bytes(document.to_string()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn ids_are_those_of_the_tokenizer(
            texts in prop::collection::vec("([abs'é 1.\n\r\t\u{a0}ſ²中]|<\\|a\\|>b?|1 a|'ll|  )*", 1..20),
        ) {
            for steps in [gpt2(), smollm(), llama3()] {
                let tokenizer = tokenizer(&document(steps));
                let words = Words::of(&tokenizer).expect("a known way of cutting");
                for text in &texts {
                    let expected = tokenizer.encode_fast(text.as_str(), false).unwrap();
                    // From the tokenizer, then from memory.
                    for _ in 0..2 {
                        prop_assert_eq!(words.encode(&tokenizer, text).unwrap(), expected.get_ids(), "{:?}", text);
                    }
                }
            }
        }
    }

    #[test]
    fn stretches_end_where_every_expression_cuts() {
        for (text, expected) in [
            ("", vec![]),
            ("To cook, don't wait", vec!["To", " cook", ",", " don", "'t", " wait"]),
            ("end.\n\nThe 10 men", vec!["end", ".\n\nThe", " 10", " men"]),
            ("caf\u{e9} is  a", vec!["caf\u{e9} is", "  a"]),
        ] {
            assert_eq!(stretches(text).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn other_tokenizers_are_left_alone() {
        let plain = document(llama3());
        assert!(Words::of(&tokenizer(&plain)).is_some());
        let with = |pointer: &str, value: Value| {
            let mut document = plain.clone();
            *document.pointer_mut(pointer).unwrap() = value;
            document
        };
        for (pointer, value) in [
            ("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!(r"\p{L}+|[^\p{L}]+")),
            ("/pre_tokenizer/pretokenizers/0/behavior", json!("Removed")),
            ("/pre_tokenizer/pretokenizers/0", json!({"type": "Digits", "individual_digits": true})),
            ("/pre_tokenizer/pretokenizers/1/add_prefix_space", json!(true)),
            ("/pre_tokenizer/pretokenizers/1", json!({"type": "Digits", "individual_digits": true})),
            ("/pre_tokenizer", json!({"type": "Whitespace"})),
            ("/pre_tokenizer", Value::Null),
            ("/normalizer", json!({"type": "NFC"})),
            ("/model/dropout", json!(0.5)),
            ("/added_tokens/0/lstrip", json!(true)),
            ("/added_tokens/1/single_word", json!(true)),
        ] {
            assert!(Words::of(&tokenizer(&with(pointer, value.clone()))).is_none(), "{pointer}: {value}");
        }
    }
}
