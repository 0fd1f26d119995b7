//! Outputs of judging: what replaces them, where they go, what they list, and what is shown of them.

use serde_json::json;

use crate::{
    eval::{Stub, answers, judging, lines, questions, rows},
    support::{Scratch, stderr, tiny},
};

#[test]
fn a_finished_output_is_not_replaced_by_one_that_was_made_otherwise() {
    let scratch = Scratch::new();
    scratch.write("q.jsonl", questions(4));
    scratch.write("m.jsonl", answers(4));
    scratch.write("r.jsonl", answers(4));
    let stub = Stub::start(&scratch, &["--behave", "fixed:7"]);
    scratch.ok(&judging(&stub.1, &[]));
    let before = std::fs::read(scratch.path("j.jsonl")).unwrap();
    let row = rows(&scratch.path("j.jsonl")).remove(0);
    assert_eq!(row["meta"]["params"], json!({"temperature": 0, "max_tokens": 2048}));
    let prompt = |name: &str| {
        let fields = ["question", "answer", "ref_answer_1"].map(|field| format!("{{{field}}}"));
        let later = ["question_1", "question_2", "answer_1", "answer_2", "ref_answer_1", "ref_answer_2"];
        let template = match name.ends_with("multi-turn") {
            true => later.map(|field| format!("{{{field}}}")).join(" "),
            false => fields.join(" "),
        };
        let template = if name.contains("math") {
            template
        } else {
            template.replace("{ref_answer_1}", "").replace("{ref_answer_2}", "")
        };
        json!({"name": name, "system_prompt": "Rate.", "prompt_template": template, "output_format": "[[rating]]"})
    };
    let names = ["single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn"];
    scratch.write("p.jsonl", lines(names.map(prompt)));
    for (more, message) in [
        (&["--prompts", "p.jsonl"][..], "j.jsonl:1: was judged with other answers, references or prompts"),
        (
            &["--set", "judge.temperature=0.7"],
            "j.jsonl:1: was judged with {\"max_tokens\":2048,\"temperature\":0}",
        ),
        (
            &["--limit", "2"],
            "j.jsonl:5: question 83 lies beyond --limit 2, and the file would be replaced\nhint: ",
        ),
    ] {
        let run = scratch.run(&judging(&stub.1, more));
        assert_eq!(run.status.code(), Some(2), "{message}: {}", stderr(&run));
        assert!(stderr(&run).contains(message), "{message}: {}", stderr(&run));
        assert_eq!(std::fs::read(scratch.path("j.jsonl")).unwrap(), before);
    }
    // Elsewhere it may be, and is told.
    let mut warm = judging(&stub.1, &["--set", "judge.temperature=0.7"]);
    *warm.iter_mut().find(|word| **word == "j.jsonl").unwrap() = "warm.jsonl";
    scratch.ok(&warm);
    let show = ["eval", "mt-bench", "show", "--judgments", "warm.jsonl"];
    let told = "temperature 0.7, where the protocol's temperature is 0";
    assert!(scratch.ok(&show).contains(told));
    assert!(scratch.ok(&[&show[..], &["j.jsonl"]].concat()).contains("judged with different settings: "));

    // Two protocols are no one score, with FastChat's rule neither.
    let mut otherwise = judging(&stub.1, &["--prompts", "p.jsonl"]);
    *otherwise.iter_mut().find(|word| **word == "j.jsonl").unwrap() = "p-judged.jsonl";
    scratch.ok(&otherwise);
    let show =
        ["eval", "mt-bench", "show", "--questions", "q.jsonl", "--judgments", "j.jsonl", "p-judged.jsonl"];
    let mixed = scratch.run(&show);
    assert_eq!(mixed.status.code(), Some(2), "{}", stderr(&mixed));
    assert!(stderr(&mixed).contains("m: 8 judgments have rows with different prompts"), "{}", stderr(&mixed));
    let text = scratch.ok(&[&show[..], &["--compat", "fastchat"]].concat());
    assert!(
        text.contains("m: 8 judgments have rows with different prompts") && text.contains("0/8"),
        "{text}"
    );
}

#[test]
fn comparisons_tell_how_many_questions_they_share() {
    let scratch = Scratch::new();
    let judgment = |model: &str, question: usize| {
        json!({"question_id": 81 + question, "model": model, "judge": ["gpt-4", "single-v1"], "user_prompt": "p",
               "judgment": "[[5]]", "score": 5, "turn": 1, "tstamp": 1.0})
    };
    let some =
        |model: &'static str, of: std::ops::Range<usize>| of.map(move |question| judgment(model, question));
    scratch.write("j.jsonl", lines(some("a", 0..40).chain(some("b", 35..75)).chain(some("c", 60..75))));
    let show = ["eval", "mt-bench", "show", "--judgments", "j.jsonl", "--compare"];
    let text = scratch.ok(&[&show[..], &["a,b"]].concat());
    assert!(
        text.contains("a − b over 5 shared questions: 0.000") && text.contains("\nfew questions (5)\n"),
        "{text}"
    );
    let apart = scratch.run(&[&show[..], &["a,c"]].concat());
    assert_eq!(apart.status.code(), Some(2));
    assert!(
        stderr(&apart).contains("--compare a,c: no question has ratings of both\nhint: "),
        "{}",
        stderr(&apart)
    );
}

#[test]
fn what_failed_is_listed_and_failed_answers_are_counted() {
    let scratch = Scratch::new();
    scratch.write("q.jsonl", questions(4));
    scratch.write("r.jsonl", answers(4));
    scratch.write("m.jsonl", answers(4).replace("[\"2\",\"Later.\"]", "[\"$ERROR$\",\"Later.\"]"));
    scratch.write("faults.jsonl", lines([json!({"nth": 1, "then": [{"content": " "}]})]));
    let stub = Stub::start(&scratch, &["--behave", "fixed:7", "--script", "faults.jsonl"]);
    let run = scratch.run(&judging(&stub.1, &[]));
    assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
    for told in [
        "m: 2 turns have a failed answer ($ERROR$) and are not judged",
        "1 of 6 items ended without an answer",
        "j.jsonl.failures.jsonl lists the 1 that failed",
    ] {
        assert!(stderr(&run).contains(told), "{told}: {}", stderr(&run));
    }
    let listed = rows(&scratch.path("j.jsonl.failures.jsonl"));
    assert_eq!(
        (listed.len(), &listed[0]["status"], &listed[0]["error"]),
        (1, &json!("empty"), &json!("the reply is blank"))
    );
    scratch.ok(&judging(&stub.1, &[]));
    let text = scratch.ok(&["eval", "mt-bench", "show", "--judgments", "j.jsonl", "--questions", "q.jsonl"]);
    assert!(text.contains("6/8") && text.contains("missing 2"), "{text}");
}

#[cfg(unix)]
#[test]
fn links_are_written_through_and_folders_must_be_there() {
    use std::os::unix::fs::symlink;
    let scratch = Scratch::new();
    scratch.write("q.jsonl", questions(4));
    scratch.write("m.jsonl", answers(4));
    scratch.write("r.jsonl", answers(4));
    std::fs::create_dir(scratch.path("far")).unwrap();
    symlink("far/target.jsonl", scratch.path("j.jsonl")).unwrap();
    let stub = Stub::start(&scratch, &["--behave", "fixed:7"]);
    scratch.ok(&judging(&stub.1, &[]));
    assert_eq!(rows(&scratch.path("far/target.jsonl")).len(), 8);
    assert!(scratch.path("j.jsonl").is_symlink());
    let model = tiny("llama3");
    let answer = [
        &["eval", "mt-bench", "answer", "--model", model.to_str().unwrap(), "--model-id", "tiny"][..],
        &["--questions", "q.jsonl", "--limit", "1", "--max-new-tokens", "2", "--output"],
    ]
    .concat();
    symlink("far/a.jsonl", scratch.path("a.jsonl")).unwrap();
    scratch.ok(&[&answer[..], &["a.jsonl"]].concat());
    assert!(scratch.path("a.jsonl").is_symlink() && rows(&scratch.path("far/a.jsonl")).len() == 1);
    let whole = std::fs::read_to_string(scratch.path("a.jsonl")).unwrap();
    scratch.write("cut.jsonl", &whole[..whole.len() / 2]);

    symlink("nowhere/target.jsonl", scratch.path("astray.jsonl")).unwrap();
    let nothing = std::fs::File::open(scratch.path("q.jsonl")).unwrap().metadata().unwrap().len();
    let to = |output: &'static str| {
        let mut arguments = judging("http://127.0.0.1:9/v1", &[]);
        *arguments.iter_mut().find(|word| **word == "j.jsonl").unwrap() = output;
        arguments
    };
    let mut cache = judging("http://127.0.0.1:9/v1", &[]);
    *cache.iter_mut().find(|word| **word == "cache").unwrap() = "q.jsonl";
    let mut nameless = judging("http://127.0.0.1:9/v1", &["--dry-run"]);
    *nameless.iter_mut().find(|word| **word == "stub").unwrap() = "";
    let alpaca = ["eval", "alpaca", "--model", "m", "--data", "rows.json", "--output-dir", "q.jsonl/x"];
    scratch.write("rows.json", r#"[{"instruction": "Add.", "output": "3"}]"#);
    let plot = ["eval", "mt-bench", "show", "--judgments", "j.jsonl", "--plot", "p.png"];
    let cases: [(Vec<&str>, &str); 8] = [
        (to("astray.jsonl"), "the folder nowhere does not exist\nhint: "),
        (to("new/j.jsonl"), "new/j.jsonl: the folder new does not exist\nhint: "),
        ([&answer[..], &["new/a.jsonl"]].concat(), "new/a.jsonl: the folder new does not exist\nhint: "),
        (cache, "q.jsonl: is a file; name a directory"),
        (alpaca.to_vec(), "q.jsonl: is a file; name a directory"),
        (nameless, "--judge-model"),
        ([&answer[..], &["cut.jsonl"]].concat(), "hint: the last line was cut short; delete it"),
        (plot.to_vec(), "--plot p.png: is drawn as SVG\nhint: "),
    ];
    for (arguments, message) in cases {
        let output = scratch.run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{message}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{message}: {}", stderr(&output));
    }
    assert_eq!(std::fs::metadata(scratch.path("q.jsonl")).unwrap().len(), nothing);
}
