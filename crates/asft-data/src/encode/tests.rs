//! Encoding of rows, and what is refused.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::{
    template::{RenderOptions, TemplateChoice},
    tokenizer::tests::tokenizer,
};

const CHAT: &str = "{% for m in messages %}{% if m.role == 'bad' %}{{ raise_exception('no ' + m.role) }}{% endif %}\
    {{ m.role[0] + ':' + m.content + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ 'a:' }}{% endif %}";

fn row(prompt: &[(&str, &str)], chosen: &str, rejected: Option<&str>) -> PreferenceRow {
    let origin = Origin { file: Path::new("pairs.jsonl").into(), row: 7 };
    let prompt = prompt.iter().map(|(role, content)| Message::new(*role, *content)).collect();
    let answer = |text: &str| vec![Message::new("assistant", text)];
    PreferenceRow { origin, prompt, chosen: answer(chosen), rejected: rejected.map(answer), scores: None }
}

fn tokenizer_with(template: &str, add_bos: bool, add_eos: bool) -> Tokenizer {
    let config = json!({
        "chat_template": template, "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>",
        "add_bos_token": add_bos, "add_eos_token": add_eos,
    });
    tokenizer(config).unwrap()
}

fn encode(
    tokenizer: &Tokenizer,
    choice: TemplateChoice,
    row: &PreferenceRow,
) -> Result<[String; 3], EncodeError> {
    let template = choice.resolve(tokenizer, RenderOptions::default()).unwrap();
    let pair = tokenizer.encode_pair(row, &template)?;
    assert_eq!(pair.origin, row.origin);
    Ok([pair.prompt, pair.chosen, pair.rejected].map(|ids| tokenizer.decode(&ids, false).unwrap()))
}

#[test]
fn answers_are_what_they_add_to_the_prompt() {
    let chat = tokenizer_with(CHAT, true, false);
    let hi = [("user", "hi")];
    let two = [("system", "s"), ("user", "hi")];
    let cases = [
        (
            TemplateChoice::Model,
            row(&hi, "yes", Some("no")),
            ["u:hi<|eot_id|>a:", "yes<|eot_id|>", "no<|eot_id|>"],
        ),
        (TemplateChoice::Model, row(&two, "", None), ["s:s<|eot_id|>u:hi<|eot_id|>a:", "<|eot_id|>", ""]),
        // Raw text: BOS once, EOS only where it is not there.
        (
            TemplateChoice::None,
            row(&hi, " yes", Some(" no<|eot_id|>")),
            ["<|begin_of_text|>hi", " yes<|eot_id|>", " no<|eot_id|>"],
        ),
        (TemplateChoice::None, row(&[("user", "")], "x", None), ["<|begin_of_text|>", "x<|eot_id|>", ""]),
    ];
    for (choice, row, expected) in cases {
        assert_eq!(encode(&chat, choice, &row).unwrap(), expected);
    }
}

#[test]
fn rows_that_cannot_be_scored_say_why() {
    let changes = "{% if add_generation_prompt %}now {% endif %}{{ messages[0].content }}{% if messages[1:] %}{{ messages[1].content }}{% endif %}";
    let silent = "{{ messages[0].content }}";
    let (model, none) = (TemplateChoice::Model, TemplateChoice::None);
    let cases = [
        (
            tokenizer_with(changes, false, false),
            &model,
            row(&[("user", "hi")], "yes", None),
            "prompt and chosen answer: token 0 is `n` alone, `h` with the answer\nhint: the chat template writes",
        ),
        // "hell" and "o" are one token together.
        (
            tokenizer_with(CHAT, false, false),
            &none,
            row(&[("user", "hell")], " x", Some("o")),
            "prompt and rejected answer: token 0 is `hell` alone, `hello` with the answer\nhint: the end of the prompt merges",
        ),
        (
            tokenizer_with(CHAT, false, true),
            &none,
            row(&[("user", "hi")], "x", None),
            "hint: the tokenizer puts an EOS token",
        ),
        (
            tokenizer_with(CHAT, false, false),
            &none,
            row(&[("user", "")], "x", None),
            "the prompt has no tokens",
        ),
        (
            tokenizer_with(CHAT, false, false),
            &none,
            row(&[("user", "a"), ("user", "b")], "x", None),
            "the prompt has 2 messages",
        ),
        (
            tokenizer_with(silent, false, false),
            &model,
            row(&[("user", "hi")], "x", None),
            "the chosen answer has no tokens",
        ),
        (
            tokenizer_with(CHAT, false, false),
            &model,
            row(&[("bad", "hi")], "x", None),
            "refuses these messages: no bad",
        ),
        (tokenizer(json!({})).unwrap(), &none, row(&[("user", "hi")], "x", None), "the tokenizer has none"),
    ];
    for (tokenizer, choice, row, message) in cases {
        let error = encode(&tokenizer, choice.clone(), &row).unwrap_err().to_string();
        assert!(error.starts_with("pairs.jsonl:7: ") && error.contains(message), "{error}");
    }
}

#[test]
fn a_missing_template_names_the_way_out() {
    let error =
        TemplateChoice::Model.resolve(&tokenizer(json!({})).unwrap(), RenderOptions::default()).unwrap_err();
    assert!(error.to_string().contains("hint: set data.template"), "{error}");
    let error = TemplateChoice::File("absent.jinja".into())
        .resolve(&tokenizer(json!({})).unwrap(), RenderOptions::default())
        .unwrap_err();
    assert!(error.to_string().starts_with("absent.jinja: "), "{error}");
}
