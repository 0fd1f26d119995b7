//! Tokenizers made here: every byte a token, a few merges, the special tokens of ChatML and Llama 3.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// GPT-2's printable stand-ins for the 256 bytes.
fn byte_alphabet() -> Vec<String> {
    let plain = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    (0..256)
        .map(|byte| {
            let code = if plain(byte) {
                byte
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).map(String::from).unwrap_or_default()
        })
        .collect()
}

const MERGES: [(&str, &str); 5] = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "Ġ")];
const SPECIAL: [&str; 4] = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>"];

fn vocabulary() -> Vec<String> {
    let merged = MERGES.iter().map(|(a, b)| format!("{a}{b}"));
    let mut tokens = byte_alphabet();
    tokens.extend(merged);
    tokens.extend(SPECIAL.map(String::from));
    tokens
}

/// A tokenizer.json with these tokens.
pub(crate) fn tokenizer_json() -> Value {
    let tokens = vocabulary();
    let first_special = tokens.len() - SPECIAL.len();
    let vocab: serde_json::Map<_, _> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let added: Vec<_> = (first_special..tokens.len())
        .map(|id| {
            json!({"id": id, "content": tokens[id], "special": true, "normalized": false,
                   "single_word": false, "lstrip": false, "rstrip": false})
        })
        .collect();
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": null, "added_tokens": added, "normalizer": null, "pre_tokenizer": byte_level,
        "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": MERGES.map(|(a, b)| format!("{a} {b}"))},
    })
}

pub(crate) fn tokenizer(config: Value) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_json("test", tokenizer_json().to_string().as_bytes(), config.to_string().as_bytes())
}

fn ids(tokenizer: &Tokenizer, text: &str, special: bool) -> Vec<String> {
    let ids = tokenizer.encode(text, special).unwrap();
    ids.into_iter().map(|id| tokenizer.token(id).unwrap()).collect()
}

#[test]
fn texts_are_cut_merged_and_framed() {
    let config = json!({
        "bos_token": {"content": "<|begin_of_text|>", "special": true}, "eos_token": "<|end_of_text|>",
        "pad_token": "<|pad|>", "add_bos_token": true,
        "chat_template": [{"name": "tools", "template": "no"}, {"name": "default", "template": "{{ bos_token }}yes"}],
        "added_tokens_decoder": {"265": {"content": "<|new|>", "special": true, "single_word": false,
                                         "lstrip": false, "rstrip": false, "normalized": false}},
    });
    let tokenizer = tokenizer(config).unwrap();
    // The truncation of tokenizer.json is not applied; special tokens in a text are one id.
    assert_eq!(
        ids(&tokenizer, "hello  hell<|eot_id|>o", false),
        ["hello", "Ġ", "Ġ", "hell", "<|eot_id|>", "o"]
    );
    assert_eq!(ids(&tokenizer, "hello", true), ["<|begin_of_text|>", "hello"]);
    assert_eq!(ids(&tokenizer, "<|new|>", false), ["<|new|>"]);
    assert_eq!(tokenizer.bos_token(), Some(SpecialToken { text: "<|begin_of_text|>".into(), id: 261 }));
    assert_eq!(tokenizer.pad_token(), Some(SpecialToken { text: "<|pad|>".into(), id: 266 }));
    assert_eq!(tokenizer.vocab_size(), 267);
    assert_eq!(tokenizer.end_of_turn_ids(), &[262, 263, 264].into());
    assert_eq!(tokenizer.decode(&[261, 259, 263], true).unwrap(), "hello");
    assert_eq!(tokenizer.decode(&[261, 259, 263], false).unwrap(), "<|begin_of_text|>hello<|eot_id|>");
    assert!(tokenizer.is_special(261) && !tokenizer.is_special(259));
    let rendered = tokenizer.template().unwrap().render(&[], false, &Default::default()).unwrap();
    assert_eq!(rendered, "<|begin_of_text|>yes");
}

#[test]
fn a_directory_loads_with_all_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("tokenizer.json", &tokenizer_json().to_string());
    let bare = Tokenizer::from_model(dir.path()).unwrap();
    assert_eq!((bare.eos_token(), bare.template().is_none(), bare.files().len()), (None, true, 1));

    write("tokenizer_config.json", r#"{"chat_template": "config"}"#);
    write("chat_template.jinja", "{{ eos_token }}file\n");
    write("special_tokens_map.json", r#"{"eos_token": {"content": "<|eot_id|>"}}"#);
    write("generation_config.json", r#"{"eos_token_id": [7, 9]}"#);
    let full = Tokenizer::from_model(dir.path()).unwrap();
    assert_eq!(full.template().unwrap().render(&[], false, &Default::default()).unwrap(), "<|eot_id|>file");
    assert_eq!(full.end_of_turn_ids(), &[7, 9, 262, 263, 264].into());
    assert_eq!(full.files().len(), 5);

    let broken = [
        ("chat_template.jinja", "{% for %}", "does not compile, line 1"),
        ("generation_config.json", "{", "generation_config.json: EOF"),
        ("special_tokens_map.json", r#"{"eos_token": 3}"#, "special_tokens_map.json: "),
        (
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"9": {"content": "<|x|>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}}}"#,
            "added token `<|x|>` should have id 9, tokenizer.json gives it 265",
        ),
        ("tokenizer.json", "{}", "tokenizer.json: "),
    ];
    for (name, text, message) in broken {
        let whole = std::fs::read(dir.path().join(name)).unwrap();
        write(name, text);
        let error = Tokenizer::from_model(dir.path()).unwrap_err().to_string();
        assert!(error.contains(message), "{name}: {error}");
        std::fs::write(dir.path().join(name), whole).unwrap();
    }
    std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    for missing in [dir.path().to_path_buf(), dir.path().join("absent"), dir.path().join("absent.gguf")] {
        let error = Tokenizer::from_model(&missing).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }
}

/// Writes a GGUF file of metadata alone.
fn gguf_file(pre: &str, model: &str, tokens: &[String], types: &[i32]) -> tempfile::NamedTempFile {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out.extend(8u64.to_le_bytes());
    let chat = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}";
    for (key, value) in
        [("tokenizer.ggml.model", model), ("tokenizer.ggml.pre", pre), ("tokenizer.chat_template", chat)]
    {
        text(&mut out, key);
        out.extend(8u32.to_le_bytes());
        text(&mut out, value);
    }
    let merges = MERGES.map(|(a, b)| format!("{a} {b}"));
    for (key, values) in [("tokenizer.ggml.tokens", tokens), ("tokenizer.ggml.merges", &merges[..])] {
        text(&mut out, key);
        out.extend([9u32, 8].map(u32::to_le_bytes).concat());
        out.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| text(&mut out, value));
    }
    text(&mut out, "tokenizer.ggml.token_type");
    out.extend([9u32, 5].map(u32::to_le_bytes).concat());
    out.extend((types.len() as u64).to_le_bytes());
    types.iter().for_each(|kind| out.extend(kind.to_le_bytes()));
    for (key, id) in [("tokenizer.ggml.bos_token_id", 261u32), ("tokenizer.ggml.eos_token_id", 263)] {
        text(&mut out, key);
        out.extend(4u32.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    std::fs::write(file.path(), out).unwrap();
    file
}

#[test]
fn gguf_pre_tokenizers_cut_as_their_models_do() {
    let tokens = vocabulary();
    let types: Vec<i32> =
        tokens.iter().map(|token| if SPECIAL.contains(&token.as_str()) { 3 } else { 1 }).collect();
    for (pre, text, expected) in [
        ("gpt-2", "  12", vec!["Ġ", "Ġ", "1", "2"]),
        // The digits go first, so both spaces are one word.
        ("smollm", "  12", vec!["ĠĠ", "1", "2"]),
        // Special tokens are one id, and BOS comes first.
        ("llama-bpe", "hello<|eot_id|>", vec!["<|begin_of_text|>", "hello", "<|eot_id|>"]),
    ] {
        let file = gguf_file(pre, "gpt2", &tokens, &types);
        let tokenizer = Tokenizer::from_model(file.path()).unwrap();
        assert_eq!(ids(&tokenizer, text, true), expected, "{pre}");
        assert_eq!(tokenizer.end_of_turn_ids(), &[262, 263, 264].into());
        // What an export writes loads to the same.
        let files = tokenizer.files();
        let again = Tokenizer::from_json("again", &files[0].1, &files[1].1).unwrap();
        assert_eq!(again.encode(text, true).unwrap(), tokenizer.encode(text, true).unwrap());
        let template = again.template().unwrap();
        let messages = [crate::Message::new("user", "hi")];
        assert_eq!(template.render(&messages, true, &Default::default()).unwrap(), "hi<|eot_id|>");
    }
    let twice = [tokens.clone(), vec!["h".into()]].concat();
    for (pre, model, tokens, types, message) in [
        ("qwen2", "gpt2", &tokens, types.clone(), "`tokenizer.ggml.pre` is `qwen2`"),
        ("default", "llama", &tokens, types.clone(), "`tokenizer.ggml.model` is `llama`"),
        ("default", "gpt2", &tokens, vec![1], "265 tokens, but 1 token types"),
        ("default", "gpt2", &twice, vec![1; 266], "ids 104 and 265 are both `h`"),
        ("default", "gpt2", &tokens[..260].to_vec(), vec![1; 260], "there are 260 tokens"),
    ] {
        let error =
            Tokenizer::from_model(gguf_file(pre, model, tokens, &types).path()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

proptest! {
    #[test]
    fn decoding_gives_the_text_back(text in ".*") {
        let tokenizer = tokenizer(json!({})).unwrap();
        let ids = tokenizer.encode(&text, false).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
    }
}
