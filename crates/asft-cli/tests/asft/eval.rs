//! Evaluation from the command line: answer, judge, show, and judging that is killed and gone on with.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Scratch, stderr, tiny};

/// A stub judge that ends with the test.
pub struct Stub(Child, pub String);

impl Stub {
    pub fn start(scratch: &Scratch, more: &[&str]) -> Self {
        let mut command = scratch.command(&[&["eval", "judge", "stub"], more].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self(child, address.trim().to_owned())
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn lines(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().map(|row| format!("{row}\n")).collect()
}

pub fn questions(count: usize) -> String {
    let categories = ["writing", "math", "stem", "coding"];
    lines((0..count).map(|number| {
        json!({"question_id": 81 + number, "category": categories[number % 4], "turns": [format!("Say {number}."), "And now?"]})
    }))
}

/// Answers as MT-Bench has them; also good as reference answers.
pub fn answers(count: usize) -> String {
    lines((0..count).map(|number| {
        json!({"question_id": 81 + number, "answer_id": "a", "model_id": "m", "choices": [{"index": 0, "turns": [format!("{number}"), "Later."]}], "tstamp": 1.0})
    }))
}

pub fn rows(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const FILES: [&str; 8] =
    ["--questions", "q.jsonl", "--answers", "m.jsonl", "--references", "r.jsonl", "--output", "j.jsonl"];

pub fn judging<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let judge = ["--judge-model", "stub", "--base-url", url, "--cache", "cache"];
    [&["eval", "mt-bench", "judge"][..], &FILES, &judge, more].concat()
}

#[test]
fn questions_are_answered_judged_and_scored() {
    let scratch = Scratch::new();
    scratch.write("q.jsonl", questions(4));
    scratch.write("r.jsonl", answers(4));
    let model = tiny("llama3");
    let answer = [
        &["eval", "mt-bench", "answer", "--model", model.to_str().unwrap(), "--model-id", "tiny"][..],
        &["--questions", "q.jsonl", "--output", "m.jsonl", "--max-new-tokens", "8"],
    ]
    .concat();
    let sitting = scratch.run(&answer);
    // Not by batches: each is in the file once it is answered.
    let counts: Vec<_> = ["answered 1/4", "answered 2/4", "answered 3/4", "answered 4/4"].into();
    assert!(counts.iter().all(|count| stderr(&sitting).contains(count)), "{}", stderr(&sitting));
    let answered = rows(&scratch.path("m.jsonl"));
    assert_eq!(answered.len(), 4);
    assert!(answered.iter().all(|row| row["choices"][0]["turns"].as_array().unwrap().len() == 2));
    // What is answered stays, the rest is answered again alike.
    let text = std::fs::read_to_string(scratch.path("m.jsonl")).unwrap();
    scratch.write("m.jsonl", text.lines().take(3).map(|line| format!("{line}\n")).collect::<String>());
    scratch.ok(&answer);
    let turns =
        |rows: &[Value]| rows.iter().map(|row| row["choices"][0]["turns"].clone()).collect::<Vec<_>>();
    assert_eq!(turns(&rows(&scratch.path("m.jsonl"))), turns(&answered));

    let plan = scratch.ok(&judging("http://127.0.0.1:9/v1", &["--dry-run"]));
    assert_eq!(serde_json::from_str::<Value>(&plan).unwrap()["calls"], 8);
    let stub = Stub::start(&scratch, &["--behave", "fixed:7"]);
    scratch.ok(&judging(&stub.1, &[]));
    let show =
        ["eval", "mt-bench", "show", "--judgments", "j.jsonl", "--questions", "q.jsonl", "--plot", "p.svg"];
    let summary: Value = serde_json::from_str(&scratch.ok(&[&show[..], &["--json"]].concat())).unwrap();
    let scored = &summary["models"][0];
    assert_eq!((&scored["model"], &scored["average"], &scored["n"]), (&json!("m"), &json!(7.0), &json!(8)));
    assert!(scratch.path("p.svg").is_file());
    // All is in the cache by now: nothing is sent, and the file comes out the same.
    let judged = std::fs::read(scratch.path("j.jsonl")).unwrap();
    drop(stub);
    scratch.ok(&judging("http://127.0.0.1:9/v1", &["--offline"]));
    assert_eq!(std::fs::read(scratch.path("j.jsonl")).unwrap(), judged);
    // With an empty cache nothing is had, and what is there stays.
    let mut empty = judging("http://127.0.0.1:9/v1", &["--offline"]);
    *empty.iter_mut().find(|word| **word == "cache").unwrap() = "empty";
    assert_eq!(scratch.run(&empty).status.code(), Some(1));
    assert_eq!(std::fs::read(scratch.path("j.jsonl")).unwrap(), judged);
    let nameless: Vec<_> = answer.iter().map(|&word| if word == "tiny" { "" } else { word }).collect();
    let refused = scratch.run(&nameless);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("--model-id"), "{}", stderr(&refused));
    // Other settings do not go on with these answers.
    let other = scratch.run(&[&answer[..], &["--seed", "5"]].concat());
    assert_eq!(other.status.code(), Some(2));
    assert!(stderr(&other).contains("question 81 was answered with"), "{}", stderr(&other));

    scratch.write("s.json", scratch.ok(&[&show[..], &["--json"]].concat()));
    scratch.write("pairs.jsonl", "{\"predict\": \"a b\", \"label\": \"a b c\"}\n");
    scratch.write("t.json", scratch.ok(&["eval", "text", "--input", "pairs.jsonl", "--json"]));
    scratch.ok(&[
        &["eval", "report", "--summary", "s.json", "t.json", "--questions", "q.jsonl"][..],
        &["--answers", "m.jsonl", "--judgments", "j.jsonl", "--output", "report.html"],
    ]
    .concat());
    let page = std::fs::read_to_string(scratch.path("report.html")).unwrap();
    assert!(
        page.contains("MT-Bench, judged by stub")
            && page.contains("Rating: [[7]]")
            && !page.contains("src=\"http")
            && !page.contains("href"),
        "{page}"
    );
}

#[test]
fn the_first_questions_are_answered_judged_and_shown_as_such() {
    let scratch = Scratch::new();
    scratch.write("q.jsonl", questions(4));
    scratch.write("r.jsonl", answers(4));
    let model = tiny("llama3");
    let answer = [
        &["eval", "mt-bench", "answer", "--model", model.to_str().unwrap(), "--model-id", "tiny"][..],
        &["--questions", "q.jsonl", "--output", "m.jsonl", "--max-new-tokens", "8", "--batch", "1"],
    ]
    .concat();
    let sitting = scratch.run(&[&answer[..], &["--limit", "2"]].concat());
    assert!(stderr(&sitting).contains("the first 2 of 4 questions, 0 answered"), "{}", stderr(&sitting));
    let ids =
        || rows(&scratch.path("m.jsonl")).iter().map(|row| row["question_id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(), [81, 82]);
    // Missing answers are told, unless fewer are asked for.
    let stub = Stub::start(&scratch, &["--behave", "fixed:7"]);
    let whole = scratch.run(&judging(&stub.1, &[]));
    assert_eq!(whole.status.code(), Some(2));
    assert!(
        stderr(&whole).contains(
            "no answer to question 83\nhint: answer it first, or leave it out of the questions (--limit N"
        ),
        "{}",
        stderr(&whole)
    );
    scratch.ok(&judging(&stub.1, &["--limit", "2"]));
    let show = ["eval", "mt-bench", "show", "--judgments", "j.jsonl", "--questions", "q.jsonl"];
    let rebuilt = [&show[..], &["--answers", "m.jsonl", "--references", "r.jsonl"]].concat();
    for show in [&show[..], &rebuilt] {
        let text = scratch.ok(show);
        for told in ["4/8", "without a rating that counts: missing 4", "m: few questions (2)"] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }
    let plot = scratch.run(&[&show[..], &["--plot", "p.svg"]].concat());
    assert_eq!(plot.status.code(), Some(2));
    assert!(stderr(&plot).contains("--plot: a circle needs three categories"), "{}", stderr(&plot));

    // The rest is answered later, and may be there when only the first are judged.
    scratch.ok(&answer);
    assert_eq!(ids(), [81, 82, 83, 84]);
    let before = std::fs::read(scratch.path("j.jsonl")).unwrap();
    scratch.ok(&judging(&stub.1, &["--limit", "2"]));
    assert_eq!(std::fs::read(scratch.path("j.jsonl")).unwrap(), before);
    scratch.ok(&judging(&stub.1, &[]));
    assert!(scratch.ok(&show).contains("8/8"));
}

#[test]
fn arena_hards_first_questions_are_answered_and_judged() {
    let scratch = Scratch::new();
    let id = |number: usize| format!("{number:032x}");
    scratch.write("q.jsonl", lines((0..3).map(|number| json!({"question_id": id(9 - number), "category": "c", "cluster": "c", "turns": [{"content": format!("Say {number}.")}]}))));
    scratch.write("base.jsonl", lines((0..3).map(|number| json!({"question_id": id(9 - number), "model_id": "base", "choices": [{"index": 0, "turns": [{"content": "Well."}]}]}))));
    let model = tiny("llama3");
    scratch.ok(&[
        &[
            "eval",
            "arena-hard",
            "answer",
            "--model",
            model.to_str().unwrap(),
            "--model-id",
            "tiny",
            "--limit",
            "2",
        ][..],
        &["--questions", "q.jsonl", "--output", "m.jsonl", "--max-new-tokens", "8"],
    ]
    .concat());
    // The first of the question file, sorted by their ids.
    assert_eq!(
        rows(&scratch.path("m.jsonl")).iter().map(|row| row["question_id"].clone()).collect::<Vec<_>>(),
        [id(8), id(9)]
    );
    let stub = Stub::start(&scratch, &["--behave", "longer"]);
    let judge = [
        &[
            "eval",
            "arena-hard",
            "judge",
            "--questions",
            "q.jsonl",
            "--answers",
            "m.jsonl",
            "--baseline-answers",
        ][..],
        &[
            "base.jsonl",
            "--output-dir",
            "j",
            "--judge-model",
            "stub",
            "--base-url",
            &stub.1,
            "--cache",
            "cache",
        ],
        &["--limit", "2"],
    ]
    .concat();
    scratch.ok(&judge);
    let text = scratch.ok(&[
        "eval",
        "arena-hard",
        "show",
        "--judgments",
        "j/m.jsonl",
        "--baseline",
        "base",
        "--questions",
        "q.jsonl",
    ]);
    assert!(
        text.contains("m: 4 games, 0 without a verdict (missing 2)") && text.contains("m: few questions (2)"),
        "{text}"
    );
}

#[test]
fn a_stub_answers_for_no_other_judge() {
    let scratch = Scratch::new();
    scratch.write("q.jsonl", questions(2));
    scratch.write("m.jsonl", answers(2));
    scratch.write("r.jsonl", answers(2));
    let stub = Stub::start(&scratch, &["--behave", "hash"]);
    let mut arguments = judging(&stub.1, &[]);
    *arguments.iter_mut().find(|word| **word == "stub").unwrap() = "gpt-4";
    let other = scratch.run(&arguments);
    assert_eq!(other.status.code(), Some(2), "{}", stderr(&other));
    assert!(stderr(&other).contains("--judge-model gpt-4: a stub answers for it"), "{}", stderr(&other));
    assert!(!scratch.path("j.jsonl").exists());
    assert_eq!(std::fs::read_to_string(scratch.path("cache/replies.jsonl")).unwrap(), "");
}

#[test]
fn control_characters_reach_neither_terminal_nor_page() {
    let scratch = Scratch::new();
    scratch.write("q.jsonl", questions(1));
    let clear = "\u{1b}[2J";
    let answer = |id: i64| json!({"question_id": id, "model_id": "m", "choices": [{"turns": [format!("a\t{clear}"), "b\nc"]}]});
    scratch.write("m.jsonl", lines([answer(81)]));
    scratch.write("s.json", json!({"judge": clear, "models": [], "compare": [], "pairs": []}).to_string());
    scratch.ok(&[
        &["eval", "report", "--summary", "s.json", "--questions", "q.jsonl", "--answers", "m.jsonl"][..],
        &["--output", "report.html"],
    ]
    .concat());
    let page = std::fs::read_to_string(scratch.path("report.html")).unwrap();
    assert!(page.contains("a\t␛[2J") && page.contains("b\nc") && !page.contains('\u{1b}'), "{page}");
    let judgment = json!({"question_id": 81, "model": "m", "judge": [clear, "single-v1"], "user_prompt": "p", "judgment": "[[5]]", "score": 5, "turn": 1});
    scratch.write("j.jsonl", lines([judgment]));
    let told = scratch.run(&["eval", "mt-bench", "show", "--judgments", "j.jsonl", "--judge", "x"]);
    assert!(stderr(&told).contains("there are some by ␛[2J"), "{}", stderr(&told));
    // What is not shown but kept is as it was.
    let kept = scratch.ok(&["eval", "mt-bench", "show", "--judgments", "j.jsonl"]);
    assert!(kept.contains(clear), "{kept}");
}

#[test]
fn judging_is_killed_twice_meets_faults_and_ends_whole() {
    let scratch = Scratch::new();
    scratch.write("q.jsonl", questions(80));
    scratch.write("m.jsonl", answers(80));
    scratch.write("r.jsonl", answers(80));
    let faults = [
        json!({"status": 500}),
        json!({"status": 429, "headers": {"Retry-After": 0}}),
        json!({"garbage": true}),
        json!({"close_after_bytes": 20}),
        json!({"content": null}),
    ];
    // Three of ten requests, whoever sends them.
    let nth = (1..400).filter(|number| number % 10 < 3).zip(faults.iter().cycle());
    scratch.write("faults.jsonl", lines(nth.map(|(number, fault)| json!({"nth": number, "then": [fault]}))));
    let stub = Stub::start(&scratch, &["--behave", "hash", "--script", "faults.jsonl", "--log", "log.jsonl"]);
    let arguments = judging(&stub.1, &["--parallel", "8"]);
    for kill_at in [40, 110] {
        let mut child = scratch.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
        let known = || {
            std::fs::read_to_string(scratch.path("cache/replies.jsonl"))
                .map_or(0, |text| text.lines().count())
        };
        let started = std::time::Instant::now();
        while known() < kill_at && child.try_wait().unwrap().is_none() {
            assert!(started.elapsed().as_secs() < 120, "no {kill_at} replies within two minutes");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!scratch.path("j.jsonl").exists());
    }
    // Blank replies fail their items; the same command asks again for just these.
    for _ in 0..8 {
        if scratch.run(&arguments).status.success() {
            break;
        }
    }
    let judged = rows(&scratch.path("j.jsonl"));
    assert_eq!(judged.len(), 160);
    assert!(
        judged
            .iter()
            .all(|row| (1..=10).contains(&row["score"].as_i64().unwrap()) && row["meta"]["status"] == "ok")
    );
    let mut keys: Vec<_> =
        judged.iter().map(|row| (row["question_id"].as_i64(), row["turn"].as_i64())).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 160);
    let faulty = rows(&scratch.path("log.jsonl")).iter().filter(|row| row["status"] != 200).count();
    assert!(faulty > 20, "{faulty} faults");
    drop(stub);

    // The same scores without a fault.
    let calm = Stub::start(&scratch, &["--behave", "hash"]);
    let again = judging(&calm.1, &[]);
    let again: Vec<&str> = again
        .iter()
        .map(|word| {
            if *word == "cache" {
                "calm"
            } else if *word == "j.jsonl" {
                "calm.jsonl"
            } else {
                word
            }
        })
        .collect();
    scratch.ok(&again);
    let scores = |rows: Vec<Value>| rows.into_iter().map(|row| row["score"].clone()).collect::<Vec<_>>();
    assert_eq!(scores(judged), scores(rows(&scratch.path("calm.jsonl"))));
}

#[test]
fn alpaca_rows_are_predicted_greedily_and_by_seeds() {
    let scratch = Scratch::new();
    let model = tiny("llama3");
    scratch.write("rows.json", r#"[{"instruction": "Add.", "input": "1 and 2", "output": "3"}, {"instruction": "Greet.", "input": "", "output": "Hello."}]"#);
    let arguments = [
        &["eval", "alpaca", "--model", model.to_str().unwrap(), "--data", "rows.json", "--output-dir", "out"]
            [..],
        &["--max-new-tokens", "6", "--seeds", "1,2", "--json"],
    ]
    .concat();
    let text = scratch.ok(&arguments);
    let summary: Value = serde_json::from_str(&text).unwrap();
    let drawings = summary["alpaca"][0]["drawings"].as_array().unwrap();
    assert_eq!(
        drawings.iter().map(|of| of["drawing"].as_str().unwrap()).collect::<Vec<_>>(),
        ["greedy", "seed-1", "seed-2"]
    );
    let file = scratch.path("out/llama3/predictions-seed-1.jsonl");
    let whole = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        rows(&file).iter().map(|row| row["label"].as_str().unwrap().to_owned()).collect::<Vec<_>>(),
        ["3", "Hello."]
    );
    // The second row is made again alike.
    let first = whole.lines().next().unwrap();
    std::fs::write(&file, format!("{first}\n{{\"predict")).unwrap();
    assert_eq!(scratch.ok(&arguments), text);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), whole);
    // The first rows only, of a file that has more and keeps them.
    let limited = scratch.run(&[&arguments[..], &["--limit", "1"]].concat());
    assert!(stderr(&limited).contains("the first 1 of 2 rows"), "{}", stderr(&limited));
    let one: Value = serde_json::from_slice(&limited.stdout).unwrap();
    assert_eq!((&one["rows"], &one["alpaca"][0]["drawings"][1]["pairs"]), (&json!(1), &json!(1)));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), whole);
    let table: Vec<_> = arguments.iter().copied().filter(|word| *word != "--json").collect();
    let table = scratch.ok(&[&table[..], &["--limit", "1"]].concat());
    let head = "1 of 2 rows of rows.json; max-new-tokens 6, cutoff 1024; temperature 0.95, top-k 50, top-p 0.7, seeds 1, 2\n";
    assert!(table.starts_with(head), "{table}");
    let data = std::fs::read_to_string(scratch.path("rows.json")).unwrap();
    for (was, is) in [("Add.", "Subtract."), ("1 and 2", "1 and 3")] {
        scratch.write("rows.json", data.replace(was, is));
        let output = scratch.run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        let message = "predictions-greedy.jsonl:1: does not belong to row 0 of the input\nhint: ";
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
    scratch.write("rows.json", data);
    for (more, message) in [
        (&["--seeds", "-1"][..], "must be a whole number from 0 on"),
        (&["--temperature", "0.1"][..], "predictions-seed-1.jsonl:1: was made with"),
        (&["--seeds", "2"], "--seeds: 2 is given twice"),
        (&["--cutoff", "1"], "rows.json:1: --cutoff 1 leaves nothing of the output"),
    ] {
        let output = scratch.run(&[&arguments[..], more].concat());
        assert_eq!(output.status.code(), Some(2), "{message}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{message}: {}", stderr(&output));
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), whole);
}

#[test]
fn what_cannot_be_judged_or_shown_is_told() {
    let scratch = Scratch::new();
    scratch.write("q.jsonl", questions(4));
    scratch.write("m.jsonl", answers(5));
    scratch.write("r.jsonl", answers(4));
    scratch.write("arena.jsonl", "{\"question_id\": \"0f\", \"category\": \"c\", \"cluster\": \"c\", \"turns\": [{\"content\": \"a\"}]}\n");
    let judgment = |judge: &str, prompt: &str| json!({"question_id": 81, "model": "m", "judge": [judge, "single-v1"], "user_prompt": prompt, "judgment": "[[5]]", "score": 5, "turn": 1, "tstamp": 1.0});
    scratch.write("two.jsonl", lines([judgment("a", "p"), judgment("b", "p")]));
    scratch.write("conflict.jsonl", lines([judgment("a", "p"), judgment("a", "q")]));
    let mut unknown = judgment("a", "p");
    unknown["question_id"] = json!(7);
    scratch.write("unknown.jsonl", lines([unknown]));
    let show = ["eval", "mt-bench", "show", "--questions", "q.jsonl", "--judgments"];
    let local = "http://127.0.0.1:9/v1";
    scratch.write("odd.json", r#"{"judge": "j", "models": {"m": 1}}"#);
    scratch.write("holes.json", r#"{"judge": "j", "models": [{"model": "m", "average": 1.0, "n": 1}]}"#);
    scratch.write("held.jsonl", r#"{"question_id": "0f", "choices": []}"#);
    let report = |summary, more: &[&'static str]| {
        [&["eval", "report", "--output", "x.html", "--summary", summary][..], more].concat()
    };
    scratch.write("good.json", r#"{"judge": "j", "models": []}"#);
    let cases: [(Vec<&str>, &str); 11] = [
        (judging(local, &[]), "answers 1 questions that are not asked, first 85"),
        ([&show[..], &["two.jsonl"]].concat(), "several judges: a, b\nhint: choose one (--judge)"),
        ([&show[..], &["conflict.jsonl"]].concat(), "1 judgments have rows with different prompts"),
        ([&show[..], &["unknown.jsonl"]].concat(), "7"),
        (
            vec!["eval", "mt-bench", "show", "--questions", "arena.jsonl", "--judgments", "two.jsonl"],
            "Arena-Hard v0.1 questions",
        ),
        (vec!["eval", "text", "--input", "q.jsonl"], "q.jsonl:1: missing field `predict`"),
        (report("q.jsonl", &[]), "is no JSON"),
        (report("odd.json", &[]), "models: must be a list"),
        (report("holes.json", &[]), "models[0].expected: is missing"),
        (
            report("good.json", &["--questions", "q.jsonl", "--answers", "held.jsonl"]),
            "held.jsonl: no row is of a question of q.jsonl",
        ),
        (vec!["eval", "judge", "stub", "--behave", "clever"], "clever"),
    ];
    for (arguments, message) in cases {
        let output = scratch.run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{arguments:?}: {}", stderr(&output));
    }
    scratch.write("m.jsonl", answers(4));
    // Nonsense is told whether or not anything would be sent.
    for (option, value, message) in [
        ("--timeout", "0", "must be a number of seconds above 0"),
        ("--timeout", "1e300", "must be a number of seconds above 0"),
        ("--parallel", "0", "must be a whole number from 1 on"),
        ("--max-attempts", "-1", "must be a whole number from 1 on"),
        ("--limit", "0", "must be a whole number from 1 on"),
        ("--rpm", "-5", "--rpm: -5 requests per minute"),
        ("--tpm", "0", "--tpm: 0 tokens per minute"),
        ("--price-in", "-1", "--price-in: -1 is no price"),
        ("--max-spend", "nan", "--max-spend: NaN is no amount"),
        (
            "--set",
            r#"judge.extra={"max_tokens": null}"#,
            "--max-spend needs a limit to the length of replies",
        ),
    ] {
        let prices = ["--price-in", "1", "--price-out", "1", "--max-spend", "1"];
        let prices: Vec<_> = prices.chunks(2).filter(|pair| pair[0] != option).flatten().copied().collect();
        for mode in ["--dry-run", "--offline"] {
            let output = scratch.run(&judging(local, &[&prices[..], &[option, value, mode]].concat()));
            assert_eq!(output.status.code(), Some(2), "{option} {value}: {}", stderr(&output));
            assert!(stderr(&output).contains(message), "{option} {value}: {}", stderr(&output));
        }
    }
    // Files that a run would destroy.
    let references = std::fs::read(scratch.path("r.jsonl")).unwrap();
    for (output, message) in
        [("r.jsonl", "is the input itself"), ("two.jsonl", "two.jsonl:1: is no judgment of these answers")]
    {
        let mut arguments = judging(local, &["--offline"]);
        *arguments.iter_mut().find(|word| **word == "j.jsonl").unwrap() = output;
        let run = scratch.run(&arguments);
        assert_eq!(run.status.code(), Some(2), "{output}: {}", stderr(&run));
        assert!(stderr(&run).contains(message), "{output}: {}", stderr(&run));
    }
    assert_eq!(std::fs::read(scratch.path("r.jsonl")).unwrap(), references);
    let key: fn(&mut Command) = |command| {
        command.env_remove("OPENAI_API_KEY");
    };
    for (url, message) in [("https://judge.example/v1", "OPENAI_API_KEY is not set"), ("nowhere", "base URL")]
    {
        let mut command = scratch.command(&judging(url, &[]));
        key(&mut command);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{url}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{url}: {}", stderr(&output));
        assert!(!scratch.path("j.jsonl").exists());
    }
}
