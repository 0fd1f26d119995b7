//! Answers from the command line: rows in, rows out, and what was broken off gone on with.

use crate::support::{Scratch, stderr, tiny};

const PROMPTS: &str = r#"{"prompt": "Name a colour."}
{"prompt": [{"role": "user", "content": "Count to three."}]}

{"prompt": "What is rain?"}
{"prompt": "Say something."}
"#;

const WARM: [&str; 2] = ["--temperature", "1"];

fn arguments<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["generate", "--model", model, "--input", "in.jsonl", "--output", "out.jsonl"];
    [&fixed[..], &["--max-new-tokens", "12", "--batch", "2"], more].concat()
}

#[test]
fn rows_are_answered_and_an_output_is_gone_on_with() {
    let scratch = Scratch::new();
    let model = tiny("llama3");
    let model = model.to_str().unwrap();
    scratch.write("in.jsonl", PROMPTS);
    scratch.ok(&arguments(model, &WARM));
    let whole = std::fs::read_to_string(scratch.path("out.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> =
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.iter().map(|row| row["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    for row in &rows {
        let ids = row["token_ids"].as_array().unwrap().len();
        assert!(
            ids == 12 && row["finish"] == "length" || ids <= 12 && row["finish"] == "end_of_turn",
            "{row}"
        );
    }
    assert_eq!(rows[2]["prompt"], "What is rain?");

    let again = scratch.run(&arguments(model, &WARM));
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("out.jsonl: exists\nhint: --resume"), "{}", stderr(&again));

    // The third answer came first, the second was cut in the middle of its line.
    let lines: Vec<&str> = whole.lines().collect();
    let partial = format!("{}\n{}\n{}", lines[2], lines[0], &lines[1][..30]);
    scratch.write("out.jsonl", &partial);
    let resumed = scratch.run(&arguments(model, &[&WARM[..], &["--resume"]].concat()));
    assert!(resumed.status.success() && stderr(&resumed).contains("answered 2/2"), "{}", stderr(&resumed));
    assert_eq!(std::fs::read_to_string(scratch.path("out.jsonl")).unwrap(), whole);

    scratch.write("out.jsonl", &partial);
    let other = std::fs::File::create(scratch.path(".out.jsonl.lock")).unwrap();
    other.lock().unwrap();
    let refused = scratch.run(&arguments(model, &[&WARM[..], &["--resume"]].concat()));
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("out.jsonl: another process is writing it"), "{}", stderr(&refused));
    drop(other);
    for (more, input, message) in [
        (&["--resume", "--seed", "1"][..], PROMPTS, "out.jsonl:1: was made with"),
        (&["--resume"], "{\"prompt\": \"Another.\"}\n", "out.jsonl:1: does not belong to row 2"),
        (
            &["--resume"],
            "{\"prompt\": 3}\n",
            "in.jsonl:1: prompt: is a number\nhint: a prompt is a text, or a list",
        ),
        (&["--resume"], "{\"prompt\": 3, \"index\": 1}\n", "in.jsonl:1: prompt"),
        (
            &["--resume"],
            "{\"prompt\": \"a\"}\n{\"prompt\": \" \"}\n",
            "in.jsonl:2: prompt: says nothing\nhint: ",
        ),
        (&["--resume", "--limit", "0"], PROMPTS, "must be a whole number from 1 on"),
        (&["--resume", "--limit", "-1"], PROMPTS, "must be a whole number from 1 on"),
        (&["--resume", "--seed", "-1"], PROMPTS, "must be a whole number from 0 on"),
        (&["--top-p", "-1"], PROMPTS, "--top-p must be from 0 to 1, got -1"),
        (&["--resume"], "\n", "in.jsonl: holds no row"),
        (&["--top-p", "1.5"], PROMPTS, "--top-p must be from 0 to 1"),
    ] {
        scratch.write("in.jsonl", input);
        let output = scratch.run(&arguments(model, &[&WARM[..], more].concat()));
        assert_eq!(output.status.code(), Some(2), "{message}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{message}: {}", stderr(&output));
        assert_eq!(std::fs::read_to_string(scratch.path("out.jsonl")).unwrap(), partial, "{message}");
    }
}

#[test]
fn the_first_rows_are_answered_with_their_other_columns_and_the_rest_later() {
    let scratch = Scratch::new();
    let model = tiny("llama3");
    let model = model.to_str().unwrap();
    let row =
        |id: usize| format!("{{\"id\":{id},\"prompt\":\"Say {id}.\",\"tags\":[\"a\",{{\"b\":null}}]}}\n");
    scratch.write("in.jsonl", (0..3).map(row).collect::<String>());
    let limited = scratch.run(&arguments(model, &["--limit", "2"]));
    assert!(stderr(&limited).contains("the first 2 of 3 rows"), "{}", stderr(&limited));
    let read = || std::fs::read_to_string(scratch.path("out.jsonl")).unwrap();
    let first = read();
    assert_eq!(first.lines().count(), 2);
    for (place, line) in first.lines().enumerate() {
        let begins = format!(
            r#"{{"index":{place},"prompt":"Say {place}.","id":{place},"tags":["a",{{"b":null}}],"text":""#
        );
        assert!(line.starts_with(&begins), "{line}");
    }
    scratch.ok(&arguments(model, &["--resume"]));
    let whole = read();
    assert!(whole.starts_with(&first) && whole.lines().count() == 3, "{whole}");
    // What is there beyond the limit stays.
    scratch.ok(&arguments(model, &["--resume", "--limit", "1"]));
    assert_eq!(read(), whole);
    for (input, message) in [
        (row(0).replace("[\"a\"", "[\"x\""), "out.jsonl:1: does not belong to row 0"),
        (
            row(0).replace("tags", "text"),
            "in.jsonl:1: text: the output has a column of this name itself\nhint: ",
        ),
    ] {
        scratch.write("in.jsonl", input);
        let output = scratch.run(&arguments(model, &["--resume"]));
        assert_eq!(output.status.code(), Some(2), "{message}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{message}: {}", stderr(&output));
        assert_eq!(read(), whole);
    }
}

#[test]
fn an_answer_is_printed_as_it_grows() {
    let scratch = Scratch::new();
    let model = tiny("llama3");
    let model = model.to_str().unwrap();
    let text =
        scratch.ok(&["generate", "--model", model, "--prompt", "Name a colour.", "--max-new-tokens", "12"]);
    scratch.write("in.jsonl", "{\"prompt\": \"Name a colour.\"}\n");
    scratch.ok(&arguments(model, &[]));
    let row: serde_json::Value =
        serde_json::from_slice(&std::fs::read(scratch.path("out.jsonl")).unwrap()).unwrap();
    assert_eq!(text.strip_suffix('\n'), row["text"].as_str());
    for (more, message) in [
        (&["--prompt", "Hi", "--limit", "1"][..], "'--limit <N>'"),
        (&["--prompt", "Hi", "--resume"], "'--resume'"),
        (&["--prompt", ""], "--prompt: says nothing"),
    ] {
        let output = scratch.run(&[&["generate", "--model", model][..], more].concat());
        assert_eq!(output.status.code(), Some(2), "{message}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{message}: {}", stderr(&output));
    }
    let long = "word ".repeat(2000);
    let output = scratch.run(&["generate", "--model", model, "--prompt", &long]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("the model was made for 512"), "{}", stderr(&output));
}
