//! Arena-Hard v0.1 on recorded answers and judgments.

use std::path::PathBuf;

use asft_eval::{
    EvalError,
    arena_hard::{
        self, Answers, ArenaGame, BASELINE, BattleFile, JudgeConfig, JudgmentFile, ModelSummary,
        NOT_OFFICIAL, Options, Questions, RETRY_MESSAGE, StyleCounts, Summary, csv, games, import,
        read_answers, rows, show, show_battles,
    },
    jsonl,
    judge::{Reply, Status},
};
use serde_json::{Value, json};

use crate::{
    golden::{self, assert_close},
    known_judge::{judge_all, judge_one, size, unanswered},
    shared::data,
};

const LLAMA: &str = "llama-3-8b-instruct";
const PYTHIA: &str = "Pythia-12B-DPO-UltraFeedback";

const OPTIONS: Options<'_> =
    Options { baseline: BASELINE, judge: None, answers: &[], questions: None, style_control: false };

fn answers(model: &str) -> Option<Answers> {
    Some(read_answers(&data(&format!("arena_hard_v0.1/model_answer/{model}.jsonl"))?).unwrap())
}

fn recorded(model: &str) -> Option<JudgmentFile> {
    let judge = if model == LLAMA { "synthetic-length-judge" } else { "gpt-4-1106-preview" };
    let path = data(&format!("arena_hard_v0.1/model_judgment/{judge}/{model}.jsonl"))?;
    Some(JudgmentFile::read(&path).unwrap())
}

fn config() -> Option<JudgeConfig> {
    Some(JudgeConfig::read(&data("arena_hard_v0.1/judge_config.yaml")?).unwrap())
}

fn golden(name: &str) -> Option<Value> {
    data(&format!("golden/{name}.json")).map(|path| golden::read(&path))
}

fn llama_games() -> Option<Vec<ArenaGame>> {
    let questions = Questions::read(&data("arena_hard_v0.1/question.jsonl")?).unwrap();
    Some(games(&questions, &answers(LLAMA)?, &answers(BASELINE)?, &config()?, RETRY_MESSAGE).unwrap())
}

/// Writes rows as the judgment file they are, and reads it.
fn written(rows: &[impl serde::Serialize]) -> JudgmentFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    asft_eval::files::write(file.path(), jsonl::lines(rows, false).as_bytes()).unwrap();
    JudgmentFile::read(file.path()).unwrap()
}

fn model<'a>(summary: &'a Summary, name: &str) -> &'a ModelSummary {
    summary.models.iter().find(|model| model.model == name).unwrap()
}

#[track_caller]
fn assert_plain(model: &ModelSummary, golden: &Value) {
    assert_close(model.score, &golden["score"], 1e-9);
    assert_close(model.score_2dp, &golden["score_2dp"], 0.0);
    assert_eq!(json!(model.weight_total), golden["weight_total"]);
    let (v01, by_question) = (&golden["boot100_seed42"], &golden["question_cluster"]);
    assert_close(model.ci95_v01.unwrap()[0], &v01["lower"], 1e-6);
    assert_close(model.ci95_v01.unwrap()[1], &v01["upper"], 1e-6);
    assert_close(model.se_question, &by_question["se"], 1e-9);
    assert_close(model.ci95_question.unwrap()[0], &by_question["lower"], 1e-9);
    assert_close(model.ci95_question.unwrap()[1], &by_question["upper"], 1e-9);
}

#[test]
fn recorded_games_have_their_scores_and_intervals() {
    let (Some(golden), Some(pythia)) = (golden("arena_hard_golden"), recorded(PYTHIA)) else { return };
    let (Some(mistral), Some(length)) = (recorded("mistral-7b"), recorded(LLAMA)) else { return };
    for (files, name, games) in [
        (vec![pythia.clone()], PYTHIA, 24),
        (vec![mistral.clone()], "mistral-7b", 20),
        (vec![length], "synthetic-length-judge", 1000),
    ] {
        let summary = show(&files, &OPTIONS).unwrap();
        let [model] = &summary.models[..] else { panic!("one model") };
        assert_plain(model, &golden[name]["plain"][&model.model]);
        assert_eq!(model.games, Some(games));
        assert_eq!(json!(model.games_dropped), golden[name]["games_dropped"]);
    }
    let both = show(&[pythia, mistral], &OPTIONS).unwrap();
    assert_eq!((both.judge.as_deref(), both.label), (Some("gpt-4-1106-preview"), None));
    for name in [PYTHIA, "mistral-7b"] {
        assert_plain(model(&both, name), &golden["both_in_this_order"]["plain"][name]);
    }
}

#[test]
fn headline_numbers() {
    let (Some(pythia), Some(mistral)) = (recorded(PYTHIA), recorded("mistral-7b")) else { return };
    let summary = show(&[pythia], &OPTIONS).unwrap();
    assert_close(summary.models[0].score, &json!(0.862_068_965), 1e-8);
    let [low, high] = summary.models[0].ci95_v01.unwrap();
    assert!(low == 0.0 && (high - 3.448_276).abs() < 1e-6);
    let summary = show(&[mistral], &OPTIONS).unwrap();
    let [low, high] = summary.models[0].ci95_v01.unwrap();
    assert!((low - 34.315_409).abs() < 1e-6 && (high - 68.75).abs() < 1e-6);
}

#[test]
fn style_is_taken_out() {
    let (Some(golden), Some(length)) = (golden("arena_hard_golden"), recorded(LLAMA)) else { return };
    let (Some(llama), Some(baseline)) = (answers(LLAMA), answers(BASELINE)) else { return };
    let golden = &golden["synthetic-length-judge"];
    let tokens = baseline.average_tokens();
    let answers = [baseline, llama];
    let options = Options { answers: &answers, style_control: true, ..OPTIONS };
    let summary = show(&[length], &options).unwrap();
    let [model] = &summary.models[..] else { panic!("one model") };
    assert_eq!((tokens, model.avg_tokens), (Some(423), Some(585)));
    for (styled, name) in [(&model.style_control, "style_control"), (&model.equal_style, "equal_style")] {
        let (styled, golden) = (styled.as_ref().unwrap(), &golden[name]);
        assert_close(styled.score, &golden["score"][LLAMA], 1e-5);
        for (coefficient, expected) in
            styled.coef.iter().zip(golden["style_coef_tokens_headers_lists_bold"].as_array().unwrap())
        {
            assert_close(*coefficient, expected, 1e-6);
        }
        let bounds = &golden["boot100_seed42"][LLAMA];
        assert_close(styled.ci95.unwrap()[0], &bounds["lower"], 1e-5);
        assert_close(styled.ci95.unwrap()[1], &bounds["upper"], 1e-5);
    }
    let text = csv(&summary, tokens, "2024-07-31");
    assert_eq!(
        text,
        "model,score,rating_q025,rating_q975,CI,avg_tokens,date\n\
         gpt-4-0314,50.0,50.0,50.0,\"(-0.00, +0.00)\",423.0,2024-07-31\n\
         llama-3-8b-instruct,47.47,45.42,50.16,\"(-2.05, +2.69)\",585.0,2024-07-31\n"
    );
}

#[test]
fn style_counts_of_all_answers_are_recomputed() {
    let (Some(llama), Some(baseline)) = (answers(LLAMA), answers(BASELINE)) else { return };
    let mut equal = 0;
    for file in [llama, baseline] {
        for (question, row) in &file.rows {
            let turn = file.turn(question, 0).unwrap();
            let counts = StyleCounts::of(&turn.content, turn.token_len.unwrap());
            equal += usize::from(json!(counts) == row.other["conv_metadata"]);
        }
    }
    assert_eq!(equal, 1000);
}

#[test]
fn known_judges_have_their_known_answers() {
    let (Some(golden), Some(games)) = (golden("known_answer_golden"), llama_games()) else { return };
    let golden = &golden[format!("arena_{LLAMA}")];
    let (characters, tokens) = size(games.iter().map(|game| &game.messages));
    assert_eq!((games.len(), characters, tokens), (1000, 6_659_280, 1_665_206));
    for judge in ["hash", "longer"] {
        let summary = show(&[written(&rows(&games, &judge_all(&games, judge), judge))], &OPTIONS).unwrap();
        assert_plain(&summary.models[0], &golden[format!("{judge}_judge")]);
        assert_eq!(json!(summary.models[0].statuses), json!({"ok": 1000}));
        if judge == "longer" {
            assert_eq!(summary.models[0].position_bias, Some(0.0));
        }
    }
}

#[test]
fn judges_that_look_at_the_place_only_give_half() {
    let Some(games) = llama_games() else { return };
    for (judge, bias, weight) in [
        ("always-a", Some(1.0), 1000),
        ("always-b", Some(-1.0), 1000),
        ("first-strong", Some(1.0), 3000),
        ("always-tie", None, 1000),
    ] {
        let summary = show(&[written(&rows(&games, &judge_all(&games, judge), judge))], &OPTIONS).unwrap();
        let model = &summary.models[0];
        assert_eq!(
            (model.score, model.position_bias, model.weight_total),
            (Some(50.0), bias, weight),
            "{judge}"
        );
    }
}

#[test]
fn battles_give_the_score_of_their_games() {
    let Some(length) = recorded(LLAMA) else { return };
    let mut battles = vec![];
    for (_, judgment) in &length.rows {
        for (number, game) in [1, 2].into_iter().zip(&judgment.games) {
            let Some(label) = game.label() else { continue };
            let winner = match label.for_model(number).signum() {
                -1 => "model_a",
                1 => "model_b",
                _ => "tie",
            };
            let battle = json!({"question_id": judgment.question_id, "model_a": BASELINE, "model_b": LLAMA,
                                "winner": winner});
            battles.extend((0..label.weight()).map(|_| battle.clone()));
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    asft_eval::files::write(file.path(), jsonl::lines(&battles, false).as_bytes()).unwrap();
    let file = BattleFile::read(file.path()).unwrap();
    let (from_battles, from_games) =
        (show_battles(&file, &OPTIONS).unwrap(), show(&[length], &OPTIONS).unwrap());
    let (battles, games) = (&from_battles.models[0], &from_games.models[0]);
    assert_eq!((battles.score, battles.ci95_v01), (games.score, games.ci95_v01));
    assert_eq!((battles.games, battles.position_bias, &from_battles.judge), (None, None, &None));
    let error = show_battles(&file, &Options { baseline: "x", ..OPTIONS }).err().unwrap().to_string();
    assert!(error.contains(":1: model_a: ") && error.contains("where the baseline is x"), "{error}");
}

#[test]
fn imported_games_replay_to_the_recorded_verdicts() {
    let (Some(pythia), Some(config), Some(length)) = (recorded(PYTHIA), config(), recorded(LLAMA)) else {
        return;
    };
    assert!(config.is_official());
    let import = import(std::slice::from_ref(&pythia), &config).unwrap();
    assert_eq!((import.rows, import.skipped, import.replaced, import.entries.len()), (24, 0, 0, 24));
    assert_eq!(import.differing, [""; 0]);
    assert_eq!(json!(import.entries[0].params), json!({"max_tokens": 4096, "temperature": 0}));
    let mut changed = pythia;
    changed.rows[2].1.games[1].score = Some("A=B".to_owned());
    let import = arena_hard::import(&[changed], &config).unwrap();
    assert!(import.differing.len() == 1 && import.differing[0].contains(":3: game 2: score A=B, where"));
    let error = arena_hard::import(&[length], &config).err().unwrap().to_string();
    assert!(error.contains(":1: games[0]: the prompt is empty"), "{error}");
}

#[test]
fn what_became_of_games_is_counted() {
    let Some(games) = llama_games() else { return };
    let reply = |content: &str, finish: &str| Reply {
        content: Some(content.to_owned()),
        finish_reason: Some(finish.to_owned()),
        ..Reply::default()
    };
    let mut judged = judge_all(&games, "always-tie");
    judged[0] = judge_one(&games[0], |_| reply("[[A>B]] or [[A>>B]]", "stop"));
    judged[1] = judge_one(&games[1], |_| reply("I think", "length"));
    judged[2] = judge_one(&games[2], |_| reply("", "stop"));
    judged[4] = unanswered(Status::Budget);
    let rows = rows(&games, &judged, "j");
    assert_eq!(rows.len(), 499);
    let line: Value = serde_json::from_str(&serde_json::to_string(&rows[0]).unwrap()).unwrap();
    assert_eq!(
        line.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["question_id", "model", "judge", "games"]
    );
    let fields: Vec<_> = line["games"][1].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["user_prompt", "judgment", "score", "meta"]);
    assert_eq!(line["games"][1]["judgment"], "\nI think\nI think");
    assert_eq!(
        (&line["games"][0]["score"], &line["games"][1]["meta"]["attempts"]),
        (&Value::Null, &json!(2))
    );
    assert_eq!(arena_hard::retried(&rows), 2);
    let summary = show(&[written(&rows)], &OPTIONS).unwrap();
    let statuses = json!({"ok": 995, "truncated": 1, "empty": 1, "contradictory": 1});
    assert_eq!(json!(summary.models[0].statuses), statuses);
    assert_eq!((summary.models[0].games, summary.models[0].games_dropped), (Some(998), Some(3)));
    // The question whose game was not had is missing, where it is known that it was asked.
    let questions = Questions::read(&data("arena_hard_v0.1/question.jsonl").unwrap()).unwrap();
    let summary = show(&[written(&rows)], &Options { questions: Some(&questions), ..OPTIONS }).unwrap();
    assert_eq!(summary.models[0].statuses[&Status::Missing], 2);
}

#[test]
fn our_own_prompts_are_labelled_wherever_their_results_go() {
    let Some(path) = data("arena_hard_v0.1/question.jsonl") else { return };
    let (Some(llama), Some(baseline)) = (answers(LLAMA), answers(BASELINE)) else { return };
    let questions = Questions::read(&path).unwrap();
    let games = games(&questions, &llama, &baseline, &JudgeConfig::own(), RETRY_MESSAGE).unwrap();
    let summary = show(&[written(&rows(&games, &judge_all(&games, "longer"), "longer"))], &OPTIONS).unwrap();
    assert_eq!(summary.label, Some(NOT_OFFICIAL));
    assert_close(summary.models[0].score, &json!(80.3), 1e-9);

    // The official ones with a word more, which stand in no row.
    let text = std::fs::read_to_string(data("arena_hard_v0.1/judge_config.yaml").unwrap()).unwrap();
    let label_with = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let config = JudgeConfig::read(file.path()).unwrap();
        let games = arena_hard::games(&questions, &llama, &baseline, &config, RETRY_MESSAGE).unwrap();
        show(&[written(&rows(&games, &judge_all(&games, "longer"), "longer"))], &OPTIONS).unwrap().label
    };
    assert_eq!(label_with(&text), None);
    assert_eq!(
        label_with(&text.replacen("system_prompt: \"", "system_prompt: \"Be strict. ", 1)),
        Some(NOT_OFFICIAL)
    );
}

#[test]
fn wrong_input_is_told() {
    let (Some(pythia), Some(mistral)) = (recorded(PYTHIA), recorded("mistral-7b")) else { return };
    let (Some(length), Some(llama), Some(baseline)) = (recorded(LLAMA), answers(LLAMA), answers(BASELINE))
    else {
        return;
    };
    let told = |error: EvalError| {
        assert!(error.is_input());
        error.to_string()
    };
    let fails = |files: &[JudgmentFile], options: Options<'_>| told(show(files, &options).err().unwrap());

    let known = [baseline.clone()];
    let checked = Options { answers: &known, ..OPTIONS };
    assert_eq!(show(std::slice::from_ref(&pythia), &checked).unwrap().models[0].avg_tokens, None);
    let error = fails(std::slice::from_ref(&mistral), checked);
    assert!(error.contains("mistral-7b.jsonl: 10 of 10 judgments show another answer A"), "{error}");

    let error = fails(&[pythia.clone(), length.clone()], OPTIONS);
    assert!(error.contains("several judges: gpt-4-1106-preview, synthetic-length-judge"), "{error}");
    let one = Options { judge: Some("synthetic-length-judge"), ..OPTIONS };
    assert_eq!(show(&[pythia.clone(), length.clone()], &one).unwrap().models.len(), 1);

    let mut again = pythia.clone();
    again.rows[3].1.games[0].user_prompt += "!";
    let error = fails(&[pythia.clone(), again], OPTIONS);
    assert!(error.contains("1 games have rows with different prompts, first question "), "{error}");
    assert!(error.contains(&format!("game 1 of {PYTHIA}")), "{error}");
    let twice = show(&[pythia.clone(), pythia.clone()], &OPTIONS).unwrap();
    assert_eq!((twice.models[0].games, twice.models[0].weight_total), (Some(24), 58));

    let error = fails(std::slice::from_ref(&pythia), Options { style_control: true, ..OPTIONS });
    assert!(error.contains("needs the answers of gpt-4-0314"), "{error}");
    let error = fails(std::slice::from_ref(&pythia), Options { style_control: true, ..checked });
    assert!(error.contains(&format!("needs the answers of {PYTHIA}")), "{error}");
    let error = fails(std::slice::from_ref(&pythia), Options { baseline: PYTHIA, ..OPTIONS });
    assert!(error.contains(".jsonl:1: model: ") && error.contains("is the baseline itself"), "{error}");
    let others = [llama.clone()];
    let error = fails(&[pythia], Options { answers: &others, ..OPTIONS });
    assert!(error.contains("answers of llama-3-8b-instruct, but no judgments"), "{error}");

    let mut bare = [baseline, llama];
    let row = bare[1].rows.values_mut().next().unwrap();
    row.other.clear();
    row.choices[0].turns[0].token_len = None;
    let error = fails(&[length], Options { answers: &bare, style_control: true, ..OPTIONS });
    assert!(error.contains("has neither conv_metadata nor token_len"), "{error}");

    let wrong = |path: Option<PathBuf>, name: &str| {
        let error = told(Questions::read(&path.unwrap()).err().unwrap());
        assert!(error.contains(name) && error.contains(":1: the file holds"), "{error}");
    };
    wrong(data("mt_bench/question.jsonl"), "MT-Bench questions, not Arena-Hard v0.1 questions");
    let later = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(later.path(), "{\"uid\": \"0\", \"category\": \"hard_prompt\", \"prompt\": \"p\"}\n")
        .unwrap();
    wrong(Some(later.path().to_owned()), "later Arena-Hard (uid, prompt or messages)");
}

#[test]
fn questions_and_answers_must_fit() {
    let Some(path) = data("arena_hard_v0.1/question.jsonl") else { return };
    let (Some(llama), Some(mut baseline), Some(config)) = (answers(LLAMA), answers(BASELINE), config())
    else {
        return;
    };
    let mut questions = Questions::read(&path).unwrap();
    let told = |questions: &Questions, answers: &Answers, baseline: &Answers| {
        games(questions, answers, baseline, &config, RETRY_MESSAGE).err().unwrap().to_string()
    };
    assert!(told(&questions, &llama, &llama).contains("would play against itself"));
    let removed = baseline.rows.remove(&questions.rows[7].question_id).unwrap();
    let error = told(&questions, &llama, &baseline);
    assert!(error.contains(&format!("gpt-4-0314.jsonl: has no answer to question {}", removed.question_id)));
    questions.rows.remove(7);
    let error = told(&questions, &llama, &baseline);
    assert!(error.contains("answers 1 questions that are not asked"), "{error}");
}

/// The summary has the fields that are documented, in their order.
#[test]
fn summaries_have_their_fields() {
    let (Some(length), Some(llama), Some(baseline)) = (recorded(LLAMA), answers(LLAMA), answers(BASELINE))
    else {
        return;
    };
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let answers = [llama, baseline];
    let options = Options { answers: &answers, style_control: true, ..OPTIONS };
    let summary = json!(show(&[length], &options).unwrap());
    assert_eq!(fields(&summary), ["baseline", "judge", "models"]);
    let model = &summary["models"][0];
    assert_eq!(
        fields(model),
        [
            "model",
            "score",
            "score_2dp",
            "weight_total",
            "games",
            "games_dropped",
            "statuses",
            "ci95_v01",
            "ci95_question",
            "se_question",
            "avg_tokens",
            "position_bias",
            "style_control",
            "equal_style"
        ]
    );
    assert_eq!(fields(&model["style_control"]), ["score", "ci95", "coef"]);
    assert_eq!(fields(&model["equal_style"]), ["score", "ci95", "coef"]);
}

/// A judge that prefers the longer answer with a probability of 0.7, on answers of which 60% are longer than the
/// baseline's: the model's true share is 0.6 · 0.7 + 0.4 · 0.3.
#[test]
fn a_noisy_judges_interval_covers_the_truth() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, rows: Vec<Value>| {
        let path = directory.path().join(name);
        asft_eval::files::write(&path, jsonl::lines(&rows, false).as_bytes()).unwrap();
        path
    };
    let id = |question: usize| format!("{question:032x}");
    let answer = |length: fn(usize) -> usize| {
        let row = |question: usize| {
            let content = "word ".repeat(length(question)) + &question.to_string();
            json!({"question_id": id(question), "choices": [{"index": 0, "turns": [{"content": content}]}]})
        };
        (0..150).map(row).collect()
    };
    let questions = (0..150).map(|question| {
        json!({"question_id": id(question), "category": "c", "cluster": "c", "turns": [{"content": format!("Q{question}?")}]})
    });
    let questions = Questions::read(&file("questions.jsonl", questions.collect())).unwrap();
    let baseline = read_answers(&file(&format!("{BASELINE}.jsonl"), answer(|_| 10))).unwrap();
    let ours =
        read_answers(&file("ours.jsonl", answer(|question| if question % 5 < 3 { 20 } else { 5 }))).unwrap();
    let games = games(&questions, &ours, &baseline, &JudgeConfig::own(), RETRY_MESSAGE).unwrap();
    let truth = 100.0 * (0.6 * 0.7 + 0.4 * 0.3);
    let mut covered = 0;
    for seed in 0..100 {
        let judge = format!("noisy:0.7:{seed}");
        let summary = show(&[written(&rows(&games, &judge_all(&games, &judge), "j"))], &OPTIONS).unwrap();
        let [low, high] = summary.models[0].ci95_question.unwrap();
        covered += usize::from(low <= truth && truth <= high);
    }
    assert!((90..=100).contains(&covered), "{covered} of 100 intervals hold {truth}");
}
