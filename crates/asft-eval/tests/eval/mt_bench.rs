//! MT-Bench on recorded answers and judgments.

use std::path::PathBuf;

use asft_eval::{
    EvalError, jsonl,
    judge::{Reply, Status},
    mt_bench::{
        Answers, JudgmentFile, Mode, NOT_OFFICIAL, Options, Prompts, Questions, Shown, SingleCall,
        SingleJudgment, doubts, import, pair_games, pair_rows, read_answers, show, single_calls, single_rows,
    },
    statistics::Estimate,
};
use serde_json::{Value, json};

use crate::{
    golden::{self, assert_close},
    known_judge::{judge_all, judge_one, size, unanswered},
    shared::data,
};

const NORMAL: &str = "Meta-Llama-3-8B-Instruct-Normal";
const GRIFFIN: &str = "Meta-Llama-3-8B-Instruct-Griffin";

struct Bench {
    questions: Questions,
    answers: Answers,
    references: Answers,
    prompts: Prompts,
}

fn bench(references: &str) -> Option<Bench> {
    Some(Bench {
        questions: Questions::read(&data("mt_bench/question.jsonl")?).unwrap(),
        answers: read_answers(&data(&format!("mt_bench/model_answer/{NORMAL}.jsonl"))?).unwrap(),
        references: read_answers(&data(&format!("mt_bench/reference_answer/{references}.jsonl"))?).unwrap(),
        prompts: Prompts::read(&data("mt_bench/judge_prompts.jsonl")?).unwrap(),
    })
}

impl Bench {
    fn calls(&self) -> Vec<SingleCall> {
        let answers = std::slice::from_ref(&self.answers);
        single_calls(&self.questions, answers, Some(&self.references), &self.prompts).unwrap()
    }
}

fn recorded() -> Option<JudgmentFile> {
    Some(JudgmentFile::read(&data("mt_bench/model_judgment/gpt-4_single-origin.jsonl")?).unwrap())
}

/// Writes rows as the judgment file they are, and reads it.
fn written(rows: &[impl serde::Serialize]) -> JudgmentFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    asft_eval::files::write(file.path(), jsonl::lines(rows, true).as_bytes()).unwrap();
    JudgmentFile::read(file.path()).unwrap()
}

#[test]
fn recorded_ratings_have_their_scores() {
    let (Some(bench), Some(file)) = (bench("gpt-4"), recorded()) else { return };
    let Some(golden) = data("golden/mt_bench_golden.json").map(|path| golden::read(&path)) else { return };
    let compare = [(NORMAL.to_owned(), GRIFFIN.to_owned())];
    let options = Options {
        questions: Some(&bench.questions),
        prompts: Some(&bench.prompts),
        compare: &compare,
        ..Options::default()
    };
    let shown = show(&[file], &options).unwrap();
    assert!(shown.check().is_ok());
    let summary = shown.summary;
    assert_eq!((summary.label, summary.judge.as_str()), (None, "gpt-4"));
    assert_eq!(
        summary.models.iter().map(|model| model.model.as_str()).collect::<Vec<_>>(),
        [NORMAL, GRIFFIN]
    );
    for model in &summary.models {
        let golden = &golden["models"][&model.model];
        let (fastchat, sound) = (&golden["fastchat"], &golden["dedup"]);
        assert_close(model.fastchat.turn1, &fastchat["turn1"], 1e-12);
        assert_close(model.fastchat.turn2, &fastchat["turn2"], 1e-12);
        assert_close(model.fastchat.average, &fastchat["average"], 1e-12);
        assert_eq!(json!(model.fastchat.rows), fastchat["rows"]);
        assert_close(model.turn1, &sound["turn1"], 1e-12);
        assert_close(model.turn2, &sound["turn2"], 1e-12);
        assert_close(model.average, &sound["average"], 1e-12);
        assert_eq!(json!([model.n, model.repeated_rows]), json!([sound["rows"], sound["repeated_rows"]]));
        assert_eq!((model.expected, model.conflicts), (160, 0));
        assert_eq!(json!(model.statuses), json!({"ok": 160}));
        let categories = sound["by_category"].as_object().unwrap();
        assert_eq!(model.by_category.len(), categories.len());
        categories.iter().for_each(|(name, value)| assert_close(model.by_category[name], value, 1e-12));
        let cluster = &sound["question_cluster"];
        assert_close(model.se, &cluster["se"], 1e-9);
        let [low, high] = model.ci95.unwrap();
        assert_close(low, &cluster["lower"], 1e-9);
        assert_close(high, &cluster["upper"], 1e-9);
    }
    let (pair, golden) = (&summary.compare[0], &golden["pairs"][format!("{NORMAL} minus {GRIFFIN}")]);
    assert_close(pair.mean, &golden["mean"], 1e-12);
    assert_close(pair.se, &golden["se"], 1e-9);
    assert_close(pair.ci95.unwrap()[0], &golden["lower"], 1e-9);
    assert_close(pair.ci95.unwrap()[1], &golden["upper"], 1e-9);
    assert_close(pair.smallest_detectable, &golden["smallest_detectable"], 1e-9);
    assert_eq!(json!(pair)["questions"], 80);
}

#[test]
fn prompts_are_rebuilt_byte_for_byte() {
    let (Some(bench), Some(file)) = (bench("gpt-4"), recorded()) else { return };
    assert!(bench.prompts.is_official(Mode::Single) && bench.prompts.is_official(Mode::Pairwise));
    assert!(doubts(&bench.references).is_some_and(|doubts| doubts.contains("104, 105")));
    assert_eq!(doubts(&bench.answers), None);
    let calls = bench.calls();
    let rows: Vec<_> = file.single.iter().filter(|(_, row)| row.model == NORMAL).collect();
    let same = rows.iter().filter(|(_, row)| {
        calls.iter().any(|call| {
            (call.question_id, call.turn) == (row.question_id, row.turn)
                && call.user_prompt() == row.user_prompt
                && call.prompt == row.judge.1
        })
    });
    assert_eq!((rows.len(), same.count()), (170, 170));
}

#[test]
fn answers_say_which_of_two_runs_under_one_id_is_theirs() {
    let (Some(bench), Some(file)) = (bench("gpt-4"), recorded()) else { return };
    let Some(golden) = data("golden/mt_bench_golden.json").map(|path| golden::read(&path)) else { return };
    // Another run under the same id, after the first.
    let mut mixed = file.clone();
    for (_, row) in file.single.iter().filter(|(_, row)| row.model == NORMAL) {
        let mut other = row.clone();
        other.user_prompt += " and more";
        other.score = 1.into();
        mixed.single.push((0, other));
    }
    let options = Options { questions: Some(&bench.questions), ..Options::default() };
    let compare = [(NORMAL.to_owned(), GRIFFIN.to_owned())];
    let shown = show(std::slice::from_ref(&mixed), &Options { compare: &compare, ..options }).unwrap();
    let error = shown.check().err().unwrap();
    assert!(error.is_input());
    let told = error.to_string();
    assert!(told.contains(&format!("{NORMAL}: 160 judgments have rows with different prompts")), "{told}");
    assert!(told.contains("first question 81 turn 1 (single-v1)") && told.contains("--answers"), "{told}");
    let [griffin, normal] = &shown.summary.models[..] else { panic!("two models") };
    assert_eq!((griffin.average, griffin.conflicts), (Some(2.7), 0));
    assert_eq!((normal.average, normal.turn1, normal.ci95, normal.conflicts), (None, None, None, 160));
    assert_eq!(normal.fastchat.rows, 166 + 170);
    assert_eq!(json!(shown.summary.compare[0])["mean"], Value::Null);

    let calls = bench.calls();
    let shown = show(&[mixed], &Options { calls: Some(&calls), ..options }).unwrap();
    assert!(shown.check().is_ok());
    let expected = &golden["models"][NORMAL]["dedup_matching_answers"];
    assert_close(shown.summary.models[0].average, &expected["average"], 1e-12);
    assert_eq!(json!(shown.summary.models[0].repeated_rows), expected["repeated_rows"]);
    assert_eq!(shown.summary.models[0].fastchat.rows, 166 + 170);

    let strangers: Vec<_> = calls
        .iter()
        .cloned()
        .map(|mut call| {
            call.messages[1].content.push('!');
            call
        })
        .collect();
    let error = show(&[file], &Options { calls: Some(&strangers), ..options }).err().unwrap();
    assert!(error.to_string().contains(&format!("none of the 170 judgments of {NORMAL}")), "{error}");
}

#[test]
fn judgments_made_in_two_ways_are_no_one_score() {
    let Some(bench) = bench("gpt-4") else { return };
    let own = Prompts::own();
    let answers = std::slice::from_ref(&bench.answers);
    let calls = bench.calls();
    let own_calls = single_calls(&bench.questions, answers, Some(&bench.references), &own).unwrap();
    let mut stricter = calls.clone();
    stricter.iter_mut().for_each(|call| call.template_sha256.insert(0, '0'));
    let rows = single_rows(&calls, &judge_all(&calls, "fixed:7"), "j");
    let options = Options { questions: Some(&bench.questions), ..Options::default() };
    for others in [&own_calls, &stricter] {
        let others = single_rows(others, &judge_all(others, "fixed:5"), "j");
        let files = [written(&rows), written(&others)];
        let shown = show(&files, &options).unwrap();
        let told = shown.check().err().unwrap().to_string();
        assert!(told.contains("160 judgments have rows with different prompts, first question 81"), "{told}");
        let model = &shown.summary.models[0];
        assert_eq!((model.average, model.n, model.expected, model.conflicts), (None, 0, 160, 160));
        // The answers and prompts tell which are meant.
        let shown = show(&files, &Options { calls: Some(&calls), ..options }).unwrap();
        assert!(shown.check().is_ok());
        assert_eq!((shown.summary.models[0].average, shown.summary.models[0].n), (Some(7.0), 160));
    }
    // What other programs write has no hash, and is of the official prompts.
    let foreign: Vec<_> = rows.iter().cloned().map(|row| SingleJudgment { meta: None, ..row }).collect();
    let shown = show(&[written(&rows), written(&foreign)], &options).unwrap();
    assert!(shown.check().is_ok() && shown.summary.models[0].repeated_rows == 160);

    let mut baseline = bench.answers.clone();
    baseline.id = "baseline".to_owned();
    let pairs = |prompts: &Prompts| {
        let games =
            pair_games(&bench.questions, answers, &baseline, Some(&bench.references), prompts).unwrap();
        written(&pair_rows(&games, &judge_all(&games, "always-a"), "j"))
    };
    let shown = show(&[pairs(&own), pairs(&bench.prompts)], &options).unwrap();
    assert!(
        shown.check().is_err() && shown.summary.pairs.iter().all(|pair| pair.win_rate_adjusted.is_none())
    );
}

#[test]
fn hash_judge_has_its_known_answers() {
    let Some(golden) = data("golden/known_answer_golden.json").map(|path| golden::read(&path)) else {
        return;
    };
    for (references, average) in [("gpt-4", 5.15625), ("gpt-4-1106-preview", 5.63125)] {
        let Some(bench) = bench(references) else { return };
        let golden = &golden[format!("mt_bench_references_{references}")];
        let calls = bench.calls();
        let (characters, tokens) = size(calls.iter().map(|call| &call.messages));
        assert_eq!(json!([calls.len(), characters]), json!([golden["calls"], golden["prompt_characters"]]));
        if references == "gpt-4" {
            assert_eq!((calls.len(), characters, tokens), (160, 591_354, 147_904));
        }
        let rows = single_rows(&calls, &judge_all(&calls, "hash"), "hash");
        let options = Options { questions: Some(&bench.questions), ..Options::default() };
        let summary = show(&[written(&rows)], &options).unwrap().summary;
        let (model, golden) = (&summary.models[0], &golden["hash_judge"]);
        assert_close(model.average, &json!(average), 1e-12);
        assert_close(model.average, &golden["average"], 1e-12);
        assert_close(model.turn1, &golden["turn1"], 1e-12);
        assert_close(model.turn2, &golden["turn2"], 1e-12);
        assert_close(model.se, &golden["question_cluster"]["se"], 1e-9);
        let categories = golden["by_category"].as_object().unwrap();
        categories.iter().for_each(|(name, value)| assert_close(model.by_category[name], value, 1e-12));
    }
}

#[test]
fn fixed_judge_gives_its_rating_without_error() {
    let Some(bench) = bench("gpt-4") else { return };
    let calls = bench.calls();
    let rows = single_rows(&calls, &judge_all(&calls, "fixed:7"), "fixed");
    let summary = show(&[written(&rows)], &Options::default()).unwrap().summary;
    let model = &summary.models[0];
    assert_eq!((model.turn1, model.turn2, model.average), (Some(7.0), Some(7.0), Some(7.0)));
    assert_eq!((model.se, model.ci95), (Some(0.0), Some([7.0, 7.0])));
}

#[test]
fn imported_judgments_replay_to_the_recorded_score() {
    let (Some(bench), Some(file)) = (bench("gpt-4"), recorded()) else { return };
    let import = import(std::slice::from_ref(&file), &bench.prompts).unwrap();
    assert_eq!((import.rows, import.skipped, import.replaced, import.entries.len()), (330, 4, 6, 320));
    assert_eq!(import.differing, [""; 0]);
    let calls = bench.calls();
    let judged: Vec<_> = calls
        .iter()
        .map(|call| {
            let entry = import.entries.iter().find(|entry| entry.messages == call.messages).unwrap();
            judge_one(call, |_| entry.reply.clone())
        })
        .collect();
    let rows = single_rows(&calls, &judged, "gpt-4");
    let summary = show(&[written(&rows)], &Options::default()).unwrap().summary;
    assert_eq!(summary.models[0].average, Some(7.76875));

    let mut changed = file;
    changed.single[20].1.score = 11.into();
    let import = asft_eval::mt_bench::import(&[changed], &bench.prompts).unwrap();
    assert!(import.differing.len() == 1 && import.differing[0].contains("score 11, where the text says"));
    let mut unknown = recorded().unwrap();
    unknown.single[20].1.judge.1 = "single-v9".to_owned();
    let error = asft_eval::mt_bench::import(&[unknown], &bench.prompts).err().unwrap().to_string();
    assert!(error.contains(".jsonl:21: judge[1]: ") && error.contains("no prompt single-v9"), "{error}");
}

#[test]
fn rows_keep_what_the_judge_said_and_what_became_of_it() {
    let Some(bench) = bench("gpt-4") else { return };
    let calls = bench.calls();
    let reply = |content: Option<&str>, finish: &str| Reply {
        content: content.map(str::to_owned),
        finish_reason: Some(finish.to_owned()),
        ..Reply::default()
    };
    let mut judged = judge_all(&calls, "fixed:7");
    judged[0] = judge_one(&calls[0], |_| reply(None, "content_filter"));
    judged[1] = judge_one(&calls[1], |_| reply(Some("Good é. Rating: [[85]]"), "stop"));
    judged[2] = judge_one(&calls[2], |_| reply(Some("It is"), "length"));
    judged[3] = judge_one(&calls[3], |_| reply(Some("It is good."), "stop"));
    judged[4] = unanswered(Status::ApiError);
    judged[5] = unanswered(Status::Budget);
    let rows = single_rows(&calls, &judged, "j");
    assert_eq!(rows.len(), 158);
    let text = jsonl::lines(&rows, true);
    assert!(text.is_ascii());
    let second: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    let fields: Vec<_> = second.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        ["question_id", "model", "judge", "user_prompt", "judgment", "score", "turn", "tstamp", "meta"]
    );
    assert_eq!(second["judge"], json!(["j", "single-v1-multi-turn"]));
    assert_eq!((&second["score"], &second["tstamp"]), (&json!(85), &json!(5.0)));
    assert_eq!(second["meta"]["status"], "out_of_range");
    assert_eq!(rows[0].score.as_i64(), Some(-1));

    let options = Options { questions: Some(&bench.questions), ..Options::default() };
    let summary = show(&[written(&rows)], &options).unwrap().summary;
    let model = &summary.models[0];
    assert_eq!((model.n, model.expected, model.average), (154, 160, Some(7.0)));
    let statuses =
        json!({"ok": 154, "refused": 1, "truncated": 1, "unparsable": 1, "out_of_range": 1, "missing": 2});
    assert_eq!(json!(model.statuses), statuses);
    // FastChat counts the 85.
    assert_eq!(model.fastchat.rows, 155);
    assert_eq!(model.fastchat.average, Some((154.0 * 7.0 + 85.0) / 155.0));
}

#[test]
fn pairwise_games_have_known_results() {
    let Some(bench) = bench("gpt-4") else { return };
    let mut baseline = bench.answers.clone();
    baseline.id = "baseline".to_owned();
    for row in baseline.rows.values_mut() {
        row.choices[0].turns.iter_mut().for_each(|turn| turn.push_str(" One sentence more."));
    }
    let answers = std::slice::from_ref(&bench.answers);
    let games =
        pair_games(&bench.questions, answers, &baseline, Some(&bench.references), &bench.prompts).unwrap();
    assert_eq!(games.len(), 320);
    let result = |behaviour: &str| {
        let rows = pair_rows(&games, &judge_all(&games, behaviour), behaviour);
        let summary = show(&[written(&rows)], &Options::default()).unwrap().summary;
        assert!(summary.models.is_empty() && summary.label.is_none());
        json!(summary.pairs)
    };
    let pair = |model: &str, wins: usize, losses: usize, ties: usize, rate: f64| {
        json!({"model": model, "wins": wins, "losses": losses, "ties": ties, "win_rate_adjusted": rate,
               "statuses": {"ok": 160}})
    };
    assert_eq!(result("longer"), json!([pair(NORMAL, 0, 160, 0, 0.0), pair("baseline", 160, 0, 0, 1.0)]));
    for judge in ["always-a", "always-b", "always-tie", "first-strong"] {
        assert_eq!(result(judge), json!([pair(NORMAL, 0, 0, 160, 0.5), pair("baseline", 0, 0, 160, 0.5)]));
    }
    let mut judged = judge_all(&games, "longer");
    judged[1] = judge_one(&games[1], |_| Reply { content: Some("Both.".into()), ..Reply::default() });
    judged[2] = unanswered(Status::ApiError);
    let rows = pair_rows(&games, &judged, "j");
    assert_eq!(rows.len(), 159);
    let summary = show(&[written(&rows)], &Options::default()).unwrap().summary;
    assert_eq!(json!(summary.pairs[0].statuses), json!({"ok": 158, "unparsable": 1}));
    assert_eq!((summary.pairs[0].losses, summary.pairs[0].win_rate_adjusted), (158, Some(0.0)));

    let mut again = rows.clone();
    again[7].g1_user_prompt.push('!');
    let shown = show(&[written(&rows), written(&again)], &Options::default()).unwrap();
    let told = shown.check().err().unwrap().to_string();
    assert!(told.contains(&format!("{NORMAL}: 1 judgments have rows with different prompts")), "{told}");
    assert!(shown.summary.pairs.iter().all(|pair| pair.win_rate_adjusted.is_none()));
}

#[test]
fn our_own_prompts_are_labelled_wherever_their_results_go() {
    let Some(bench) = bench("gpt-4") else { return };
    let own = Prompts::own();
    let answers = std::slice::from_ref(&bench.answers);
    let calls = single_calls(&bench.questions, answers, Some(&bench.references), &own).unwrap();
    let rows = single_rows(&calls, &judge_all(&calls, "hash"), "hash");
    let summary = show(&[written(&rows)], &Options::default()).unwrap().summary;
    assert_eq!((own.label(Mode::Single), summary.label), (Some(NOT_OFFICIAL), Some(NOT_OFFICIAL)));
    assert_eq!(json!(summary)["label"], NOT_OFFICIAL);
    // Different replies show that questions and answers reach the judge.
    let ratings: Vec<_> = rows.iter().map(|row| row.rating()).collect();
    assert!((Estimate::of(&ratings).unwrap().mean - 5.5).abs() < 1.0);
}

#[test]
fn edited_prompts_under_official_names_are_labelled_without_the_prompts() {
    let Some(bench) = bench("gpt-4") else { return };
    let text = std::fs::read_to_string(data("mt_bench/judge_prompts.jsonl").unwrap()).unwrap();
    let label_with = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let prompts = Prompts::read(file.path()).unwrap();
        let answers = std::slice::from_ref(&bench.answers);
        let references = Some(&bench.references);
        let calls = single_calls(&bench.questions, answers, references, &prompts).unwrap();
        let rows = single_rows(&calls, &judge_all(&calls, "hash"), "hash");
        let baseline = Answers { id: "baseline".to_owned(), ..bench.answers.clone() };
        let games = pair_games(&bench.questions, answers, &baseline, references, &prompts).unwrap();
        let pairs = pair_rows(&games, &judge_all(&games, "longer"), "hash");
        let label = |file| show(&[file], &Options::default()).unwrap().summary.label;
        (label(written(&rows)), label(written(&pairs)))
    };
    assert_eq!(label_with(&text), (None, None));
    let edited: String = text
        .lines()
        .map(|line| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            let system = format!("{} Be strict.", row["system_prompt"].as_str().unwrap());
            row["system_prompt"] = json!(system);
            format!("{row}\n")
        })
        .collect();
    assert_eq!(label_with(&edited), (Some(NOT_OFFICIAL), Some(NOT_OFFICIAL)));
}

#[test]
fn failed_answers_are_not_judged() {
    let Some(mut bench) = bench("gpt-4") else { return };
    // A second turn follows its first.
    for (question, turn) in [(81, 0), (82, 1)] {
        let row = bench.answers.rows.get_mut(&question).unwrap();
        row.choices[0].turns[turn] = "$ERROR$".to_owned();
    }
    let judged: Vec<_> = bench.calls().iter().map(|call| (call.question_id, call.turn)).collect();
    assert_eq!((judged.len(), judged[0]), (157, (82, 1)));
    assert!(!judged.contains(&(82, 2)) && judged.contains(&(83, 2)));
    let baseline = Answers { id: "baseline".to_owned(), ..bench.answers.clone() };
    let answers = std::slice::from_ref(&bench.answers);
    let games =
        pair_games(&bench.questions, answers, &baseline, Some(&bench.references), &bench.prompts).unwrap();
    assert_eq!(games.len(), 2 * 157);
}

#[test]
fn wrong_input_is_told() {
    let (Some(mut bench), Some(file)) = (bench("gpt-4"), recorded()) else { return };
    let told = |error: EvalError| {
        assert!(error.is_input());
        error.to_string()
    };
    let mut two_judges = file.clone();
    two_judges.single[5].1.judge.0 = "gpt-4-turbo".to_owned();
    let error = told(show(std::slice::from_ref(&two_judges), &Options::default()).err().unwrap());
    assert!(error.contains("several judges: gpt-4, gpt-4-turbo") && error.contains("--judge"), "{error}");
    let options = Options { judge: Some("gpt-5"), ..Options::default() };
    assert!(told(show(&[two_judges], &options).err().unwrap()).contains("no judgments by gpt-5"));

    let compare = [(NORMAL.to_owned(), "x".to_owned())];
    let options = Options { compare: &compare, ..Options::default() };
    assert!(told(show(std::slice::from_ref(&file), &options).err().unwrap()).contains("x: has no ratings"));
    let compare = [(NORMAL.to_owned(), GRIFFIN.to_owned())];
    let options = Options { compare: &compare, ..Options::default() };
    let mut apart = file.clone();
    apart.single.retain(|(_, row)| (row.model == NORMAL) == (row.question_id < 100));
    let error = told(show(&[apart], &options).err().unwrap());
    assert!(error.contains("no question has ratings of both\nhint: "), "{error}");

    let mut fewer = bench.questions.clone();
    fewer.rows.remove(0);
    let options = Options { questions: Some(&fewer), ..Options::default() };
    let error = told(show(&[file], &options).err().unwrap());
    assert!(error.contains(".jsonl:1: question_id: 81 is not among the questions"), "{error}");
    let answers = std::slice::from_ref(&bench.answers);
    let error = told(single_calls(&fewer, answers, Some(&bench.references), &bench.prompts).err().unwrap());
    assert!(error.contains("answers 1 questions that are not asked, first 81"), "{error}");

    let error = told(single_calls(&bench.questions, answers, None, &bench.prompts).err().unwrap());
    assert!(error.contains("question 101 (reasoning)") && error.contains("--references"), "{error}");
    bench.references.rows.remove(&115);
    let error =
        told(single_calls(&bench.questions, answers, Some(&bench.references), &bench.prompts).err().unwrap());
    assert!(error.contains("gpt-4.jsonl: has no answer to question 115"), "{error}");

    let wrong = |path: Option<PathBuf>, name: &str| {
        let error = told(JudgmentFile::read(&path.unwrap()).err().unwrap());
        assert!(error.contains(name) && error.contains(":1: the file holds"), "{error}");
    };
    wrong(data("mt_bench/question.jsonl"), "MT-Bench questions, not MT-Bench ratings");
    wrong(data("arena_hard_v0.1/model_answer/gpt-4-0314.jsonl"), "Arena-Hard v0.1 answers");
}

/// The summary has the fields that are documented, in their order.
#[test]
fn summaries_have_their_fields() {
    let Some(file) = recorded() else { return };
    let Shown { summary, .. } = show(&[file], &Options::default()).unwrap();
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let summary = json!(summary);
    assert_eq!(fields(&summary), ["judge", "models", "compare", "pairs"]);
    assert_eq!(
        fields(&summary["models"][0]),
        [
            "model",
            "turn1",
            "turn2",
            "average",
            "n",
            "expected",
            "statuses",
            "by_category",
            "se",
            "ci95",
            "bootstrap95",
            "conflicts",
            "repeated_rows",
            "fastchat"
        ]
    );
    assert_eq!(fields(&summary["models"][0]["fastchat"]), ["turn1", "turn2", "average", "rows"]);
}
