//! Every layout: detection, conversion, drops and errors.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::json;

use super::*;

fn shared(path: &str) -> Option<Source> {
    let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(path);
    if !file.exists() {
        println!("skipped: {} is not there", file.display());
        return None;
    }
    Some(Source::File(file))
}

fn origin() -> Origin {
    Origin { file: std::path::Path::new("rows.jsonl").into(), row: 7 }
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().cloned().expect("an object")
}

/// Messages as `role: content`, with a bar before the chosen and the rejected answer.
fn shown(converted: &Converted) -> String {
    let side = |messages: &[Message]| {
        let turns = messages.iter().map(|message| format!("{}: {}", message.role, message.content));
        turns.collect::<Vec<_>>().join(", ")
    };
    match converted {
        Converted::Dropped { reason, .. } => reason.to_string(),
        Converted::Row(row) => {
            let rejected = row.rejected.as_deref().map_or("none".to_owned(), side);
            format!("{} | {} | {rejected}", side(&row.prompt), side(&row.chosen))
        }
    }
}

fn turn(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

#[test]
fn every_layout_is_recognised_and_read() {
    let (u, a, b) = (turn("user", "U"), turn("assistant", "A"), turn("assistant", "B"));
    let s = turn("system", "S");
    let said = |from: &str, value: &str| json!({"from": from, "value": value});
    let cases = [
        (
            Schema::Trl,
            json!({"prompt": "U", "chosen": "A", "rejected": "B"}),
            "user: U | assistant: A | assistant: B",
        ),
        (
            Schema::TrlChat,
            json!({"prompt": [s, u], "chosen": [a], "rejected": [b]}),
            "system: S, user: U | assistant: A | assistant: B",
        ),
        (
            Schema::TrlChatImplicit,
            json!({"chosen": [s, u, a], "rejected": [s, u, b]}),
            "system: S, user: U | assistant: A | assistant: B",
        ),
        (
            Schema::TrlChatImplicit,
            json!({"chosen": [u, a, u, a], "rejected": [u, a, u, b]}),
            "user: U, assistant: A, user: U | assistant: A | assistant: B",
        ),
        (
            Schema::TrlChatImplicit,
            json!({"chosen": [u, a], "rejected": [u, a, u, b]}),
            "user: U | assistant: A | assistant: A, user: U, assistant: B",
        ),
        (
            Schema::Ultrafeedback,
            json!({"prompt": " U", "prompt_id": "x", "chosen": [s, u, a], "rejected": [s, u, b], "score_chosen": 8, "score_rejected": 7.5}),
            "system: S, user: U | assistant: A | assistant: B",
        ),
        (
            Schema::Sharegpt,
            json!({"conversations": [said("human", "U"), said("gpt", "A"), said("observation", "O")], "chosen": said("gpt", "A"), "rejected": said("assistant", "B"), "system": "S"}),
            "system: S, user: U, assistant: A, observation: O | assistant: A | assistant: B",
        ),
        (
            Schema::AlpacaRanking,
            json!({"instruction": "U", "input": "I", "chosen": "A", "rejected": "B", "system": "S", "history": [["X", "Y"]]}),
            "system: S, user: X, assistant: Y, user: U\nI | assistant: A | assistant: B",
        ),
        (
            Schema::Alpaca,
            json!({"instruction": "U", "input": "", "output": "A"}),
            "user: U | assistant: A | none",
        ),
        (
            Schema::HhRlhf,
            json!({"chosen": "\n\nHuman: U\n\nAssistant: X Human: not one\n\nHuman: V \n\nAssistant: A", "rejected": "\n\nHuman: U\n\nAssistant: X Human: not one\n\nHuman: V \n\nAssistant: B\n"}),
            "user: U, assistant: X Human: not one, user: V | assistant: A | assistant: B",
        ),
    ];
    for (schema, row, expected) in cases {
        let row = map(row);
        assert_eq!(Schema::detect(&origin(), &row).expect("a known layout"), schema);
        let converted = schema.convert(origin(), &row).expect("well formed");
        assert_eq!(shown(&converted), expected, "{schema}");
    }
}

#[test]
fn rows_that_cannot_be_trained_on_are_dropped_by_reason() {
    let (u, v) = (turn("user", "U"), turn("user", "V"));
    let (a, b) = (turn("assistant", "A"), turn("assistant", "B"));
    let cases = [
        (json!({"prompt": "U", "chosen": " \n", "rejected": "B"}), "empty_chosen"),
        (json!({"prompt": "U", "chosen": "A", "rejected": ""}), "empty_rejected"),
        (json!({"prompt": "U", "chosen": "A", "rejected": "A"}), "identical"),
        (json!({"prompt": "\t", "chosen": "A", "rejected": "B"}), "empty_prompt"),
        (json!({"prompt": [], "chosen": [a], "rejected": [b]}), "empty_prompt"),
        (json!({"prompt": [u], "chosen": [], "rejected": [b]}), "empty_chosen"),
        (json!({"prompt": [u, a], "chosen": [a], "rejected": [b]}), "roles_do_not_alternate"),
        (json!({"chosen": [u, a], "rejected": [v, b]}), "prompts_differ"),
        (json!({"chosen": [u, a], "rejected": [u, a]}), "identical"),
        (json!({"chosen": [u, a], "rejected": []}), "empty_rejected"),
        (json!({"chosen": [a], "rejected": [b]}), "empty_prompt"),
        (json!({"prompt": "V", "chosen": [u, a], "rejected": [u, b]}), "prompts_differ"),
        (json!({"instruction": "U", "output": ""}), "empty_chosen"),
    ];
    for (row, reason) in cases {
        let row = map(row);
        let schema = Schema::detect(&origin(), &row).expect("a known layout");
        let converted = schema.convert(origin(), &row).expect("well formed");
        assert_eq!(shown(&converted), reason, "{schema}: {row:?}");
    }
}

#[test]
fn malformed_rows_say_where_and_what() {
    let (u, a) = (turn("user", "U"), turn("assistant", "A"));
    let said = |from: &str| json!({"from": from, "value": "text"});
    let cases: &[(Value, &[&str])] = &[
        (json!({"prompt": "U", "chosen": "A"}), &["no `rejected`", "`prompt`, `chosen`", "the trl layout"]),
        (json!({"prompt": "U", "chosen": "A", "rejected": null}), &["`rejected` is null", "a string"]),
        (json!({"prompt": "U", "chosen": "A", "rejected": 3}), &["`rejected` is a number", "a string"]),
        (json!({"prompt": 3, "chosen": "A", "rejected": "B"}), &["`prompt` must be"]),
        (json!({"prompt": [u], "chosen": "A", "rejected": [a]}), &["`chosen` is a string", "a list"]),
        (
            json!({"prompt": [u], "chosen": [a], "rejected": [u]}),
            &["`rejected[0].role` is \"user\"", "assistant"],
        ),
        (json!({"prompt": [u, 3], "chosen": [a], "rejected": [a]}), &["`prompt[1]` is a number"]),
        (
            json!({"prompt": [{"role": "user"}], "chosen": [a], "rejected": [a]}),
            &["no `prompt[0].content`", "`role`"],
        ),
        (
            json!({"prompt": [turn("user", "x"), {"role": "user", "content": ["part"]}], "chosen": [a], "rejected": [a]}),
            &["`prompt[1].content` is an array"],
        ),
        (
            json!({"prompt": "U", "chosen": [a], "rejected": [u, a]}),
            &["`chosen[0].role` is \"assistant\"", "user"],
        ),
        (
            json!({"conversations": [said("human"), said("bard")], "chosen": said("gpt"), "rejected": said("gpt")}),
            &["`conversations[1].from` is \"bard\"", "human"],
        ),
        (
            json!({"conversations": [said("human")], "chosen": said("human"), "rejected": said("gpt")}),
            &["`chosen.from` is \"human\"", "gpt"],
        ),
        (json!({"instruction": "U", "input": 3, "chosen": "A", "rejected": "B"}), &["`input` is a number"]),
        (
            json!({"instruction": "U", "history": [["one"]], "chosen": "A", "rejected": "B"}),
            &["`history[0]`", "two strings"],
        ),
        (json!({"messages": [u, a], "label": true}), &["KTO", "hint:", "`messages`, `label`"]),
        (json!({"prompt": "U", "completion": "A", "label": true}), &["KTO"]),
        (
            json!({"question": "U", "good": "A"}),
            &["`question`, `good`", "hint:", "hh-rlhf", "alpaca-ranking"],
        ),
        (json!({"chosen": "A", "rejected": "B"}), &["a key `prompt`"]),
        (json!({}), &["no keys"]),
    ];
    for (row, says) in cases {
        let row = map(row.clone());
        let error = Schema::detect(&origin(), &row)
            .and_then(|schema| schema.convert(origin(), &row))
            .expect_err("malformed")
            .to_string();
        assert!(error.starts_with("rows.jsonl:7: "), "{error}");
        for text in *says {
            assert!(error.contains(text), "{text:?} is not in: {error}");
        }
    }
}

#[test]
fn a_file_has_one_layout() {
    let rows = |bytes| Source::Embedded { name: "rows.jsonl", bytes };
    let trl = r#"{"prompt": "U", "chosen": "A", "rejected": "B"}"#;
    let alpaca = r#"{"instruction": "U", "chosen": "A", "rejected": "B"}"#;
    let mixed = format!("{trl}\n{alpaca}\n").leak();
    let error = SchemaRows::open(&rows(mixed.as_bytes()), Format::Auto).err().expect("two layouts");
    let error = error.to_string();
    for text in ["rows.jsonl:2", "alpaca-ranking", "trl", "hint:"] {
        assert!(error.contains(text), "{error}");
    }
    // Past the rows that are looked at ahead, and with a forced layout, the row's own error comes.
    let late = format!("{}{alpaca}\n", format!("{trl}\n").repeat(40)).leak();
    for (text, format, good) in [(&*late, Format::Auto, 40), (&*mixed, Format::Named(Schema::Trl), 1)] {
        let opened = SchemaRows::open(&rows(text.as_bytes()), format).expect("a known layout");
        assert_eq!(opened.schema(), Schema::Trl);
        let read: Vec<_> = opened.collect();
        assert_eq!(read.len(), good + 1);
        assert!(read[..good].iter().all(Result::is_ok));
        let error = read[good].as_ref().expect_err("of another layout").to_string();
        assert!(error.contains(&format!("rows.jsonl:{}: no `prompt`", good + 1)), "{error}");
    }
    // Malformed text behind good rows is met when it is its turn.
    let broken = format!("{trl}\n{{\n").leak();
    let read: Vec<_> = SchemaRows::open(&rows(broken.as_bytes()), Format::Auto).expect("trl").collect();
    assert!(matches!(&read[..], [Ok(_), Err(DataError::Json { .. })]));
    let empty = SchemaRows::open(&rows(b"\n"), Format::Auto).err();
    assert!(matches!(empty, Some(DataError::NoRows { .. })));
}

#[test]
fn formats_by_name() {
    for schema in Schema::ALL {
        let json = serde_json::to_string(&schema).expect("a name");
        assert_eq!(json, format!("\"{}\"", schema.name()));
        let format: Format = serde_json::from_str(&json).expect("every layout is a format");
        assert_eq!(format, Format::Named(schema));
        assert_eq!(serde_json::to_string(&format).expect("a name"), json);
    }
    assert_eq!("auto".parse::<Format>().expect("a format"), Format::Auto);
    let error = "shargpt".parse::<Format>().expect_err("misspelt").to_string();
    assert!(error.contains("did you mean `sharegpt`?") && error.contains("trl-chat"), "{error}");
}

/// How often each reason, or `None` for a usable row, occurs in a whole file, and its ties.
fn census(source: &Source) -> (Schema, BTreeMap<Option<DropReason>, usize>, usize) {
    let rows = SchemaRows::open(source, Format::Auto).expect("a known layout");
    let schema = rows.schema();
    let (mut census, mut ties) = (BTreeMap::new(), 0);
    for row in rows {
        let (reason, scores) = match row.expect("well formed").1 {
            Converted::Row(row) => (None, row.scores),
            Converted::Dropped { reason, scores } => (Some(reason), scores),
        };
        *census.entry(reason).or_default() += 1;
        ties += usize::from(scores.is_some_and(|(chosen, rejected)| chosen == rejected));
    }
    (schema, census, ties)
}

#[test]
fn real_files_are_read_whole() {
    use DropReason::*;
    let cases: [(&str, Schema, &[_], usize); 4] = [
        (
            "preference/ultrafeedback_train_1000.jsonl",
            Schema::Trl,
            &[(None, 994), (Some(EmptyChosen), 1), (Some(EmptyRejected), 1), (Some(Identical), 4)],
            111,
        ),
        (
            "preference/ultrafeedback_train_first100_binarized.parquet",
            Schema::Ultrafeedback,
            &[(None, 100)],
            9,
        ),
        ("preference/llamafactory_dpo_en_demo.json", Schema::Sharegpt, &[(None, 300)], 0),
        ("sft/llamafactory_alpaca_en_demo.json", Schema::Alpaca, &[(None, 999)], 0),
    ];
    for (path, schema, expected, ties) in cases {
        let Some(source) = shared(path) else { continue };
        assert_eq!(census(&source), (schema, expected.iter().copied().collect(), ties), "{path}");
    }
    if let Some(kto) = shared("preference/llamafactory_kto_en_demo.json") {
        let error = SchemaRows::open(&kto, Format::Auto).err().expect("not pairs").to_string();
        assert!(error.contains("KTO") && error.contains("kto_en_demo.json:1"), "{error}");
    }
}

#[test]
fn hh_rlhf_counts_are_those_of_the_golden() {
    let (Some(source), Some(Source::File(golden))) =
        (shared("preference/hh_harmless_base_test.jsonl.gz"), shared("golden/hh_counts.json"))
    else {
        return;
    };
    let golden = std::fs::read_to_string(golden).expect("it is there");
    let golden: Value = serde_json::from_str(&golden).expect("JSON");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut differ, mut dropped) = (vec![], vec![]);
    let mut longer = 0;
    let raw = read::open(&source).expect("it is there");
    let rows = SchemaRows::open(&source, Format::Auto).expect("a known layout");
    assert_eq!(rows.schema(), Schema::HhRlhf);
    for (index, (raw, row)) in raw.zip(rows).enumerate() {
        let (_, raw) = raw.expect("well formed");
        let text = |key: &str| raw[key].as_str().expect("a string").to_owned();
        let faults = hh_rlhf::faults(&text("chosen"), &text("rejected"));
        for fault in &faults {
            *counts.entry(fault.name()).or_default() += 1;
        }
        if faults.contains(&DropReason::PromptsDiffer) {
            differ.push(index);
        }
        match row.expect("well formed").1 {
            Converted::Row(row) => {
                assert_eq!(faults, []);
                longer += usize::from(row.prompt.len() > 1);
            }
            Converted::Dropped { reason, .. } => {
                assert_eq!(Some(&reason), faults.first());
                dropped.push(index);
            }
        }
    }
    let count = |reason: &str| counts.get(reason).copied().unwrap_or_default();
    assert_eq!(golden["rows_with_different_prompts"], json!(differ));
    assert_eq!(golden["rows_dropped_by_the_strict_rule"], json!(dropped));
    assert_eq!(golden["strict_kept"], json!(2312 - dropped.len()));
    assert_eq!(golden["two_or_more_exchanges_of_kept"], json!(longer));
    for (key, reason) in [
        ("prompts_differ", "prompts_differ"),
        ("chosen_empty", "empty_chosen"),
        ("rejected_empty", "empty_rejected"),
        ("same_answers", "identical"),
        ("not_alternating_either", "roles_do_not_alternate"),
    ] {
        assert_eq!(golden[key], json!(count(reason)), "{key}");
    }
}
