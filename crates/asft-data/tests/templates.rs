//! Rendering equals transformers' byte for byte; `goldens/templates.py` made the goldens.

use std::collections::BTreeMap;

use asft_data::{
    ChatTemplate, Message,
    template::{RenderOptions, TemplateError, parse_date},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Goldens {
    date: String,
    special_tokens: BTreeMap<String, String>,
    templates: BTreeMap<String, String>,
    conversations: BTreeMap<String, Vec<Message>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    conversation: String,
    generation: bool,
    variables: BTreeMap<String, serde_json::Value>,
    /// What transformers rendered,
    text: Option<String>,
    /// or the message the template raised.
    raises: Option<String>,
    /// or that it fails on an undefined value.
    #[serde(default)]
    fails: bool,
}

#[test]
fn renderings_are_those_of_transformers() {
    let goldens: Goldens = serde_json::from_str(include_str!("goldens/templates.json")).unwrap();
    let date = parse_date(&goldens.date).unwrap();
    let templates: BTreeMap<_, _> = goldens
        .templates
        .iter()
        .map(|(name, source)| (name, ChatTemplate::new(source, goldens.special_tokens.clone()).unwrap()))
        .collect();
    assert!(!goldens.cases.is_empty());
    let mut wrong = vec![];
    for case in goldens.cases {
        let options = RenderOptions { date: Some(date), variables: case.variables };
        let messages = &goldens.conversations[&case.conversation];
        let rendered = templates[&case.template].render(messages, case.generation, &options);
        let same = match (&rendered, &case.text, &case.raises) {
            (Ok(text), Some(golden), None) => text == golden,
            (Err(TemplateError::Raised { message }), None, Some(golden)) => message == golden,
            (Err(TemplateError::Render { .. }), None, None) => case.fails,
            _ => false,
        };
        if !same {
            let golden = (case.text, case.raises);
            wrong.push(format!("{}/{}: {rendered:?}\nexpected {golden:?}", case.template, case.conversation));
        }
    }
    assert!(wrong.is_empty(), "{} differ, the first:\n{}", wrong.len(), wrong[0]);
}
