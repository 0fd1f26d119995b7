//! `asft eval mt-bench`.

use std::path::PathBuf;

use asft_eval::{
    EvalError, Sampling,
    answer_file::distinct_ids,
    derived_seed,
    mt_bench::{
        self, Answers, JudgmentFile, Mode, Options, PairGame, Prompts, Question, Questions, Shown,
        SingleCall, Summary, pair_games, pair_rows, read_answers, show, single_calls, single_rows,
    },
    schema::Kind,
    statistics::FEW_QUESTIONS,
};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, json};

use super::{
    answers::{self, Asked},
    calibration, categories,
    judging::{JudgeArguments, Wanted, take_first, write_judgments},
    print_json,
    table::{interval, number, table},
};
use crate::{
    failure::Failure,
    number::whole,
    output::{self, note},
};

#[derive(Subcommand)]
pub enum Command {
    /// Answer the questions, both turns.
    Answer(AnswerArguments),
    /// Have answers judged.
    Judge(JudgingArguments),
    /// Scores of judged answers.
    Show(ShowArguments),
}

pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Answer(arguments) => answer(&arguments),
        Command::Judge(arguments) => judge(&arguments),
        Command::Show(arguments) => shown(&arguments),
    }
}

#[derive(Args)]
pub struct AnswerArguments {
    #[command(flatten)]
    answers: answers::Arguments,
    /// Tokens after which an answer is cut.
    #[arg(long, default_value_t = 1024, value_parser = whole(1usize))]
    max_new_tokens: usize,
}

/// A question with what its answers are drawn with.
struct Drawn<'a> {
    question: &'a Question,
    max_new_tokens: usize,
    seed: u64,
}

impl Asked for Drawn<'_> {
    type Id = i64;
    type Turn = String;

    fn id(&self) -> i64 {
        self.question.question_id
    }

    fn turns(&self) -> Vec<&str> {
        self.question.turns.iter().map(String::as_str).collect()
    }

    fn sampling(&self, turn: usize) -> Sampling {
        let temperature = match self.question.category.as_str() {
            "stem" | "humanities" => 0.1,
            "extraction" | "math" | "coding" | "reasoning" => 0.0,
            _ => 0.7,
        };
        let seed = derived_seed(self.seed, &[&self.question.question_id.to_string(), &turn.to_string()]);
        Sampling { temperature, top_k: None, top_p: None, max_new_tokens: self.max_new_tokens, seed }
    }

    fn turn(text: String) -> String {
        text
    }
}

fn answer(arguments: &AnswerArguments) -> Result<(), Failure> {
    let questions = Questions::read(&arguments.answers.questions)?;
    let (max_new_tokens, seed) = (arguments.max_new_tokens, arguments.answers.seed);
    let drawn: Vec<_> =
        questions.rows.iter().map(|question| Drawn { question, max_new_tokens, seed }).collect();
    answers::answer(&arguments.answers, Kind::MtBenchAnswer, &drawn)
}

#[derive(Args)]
pub struct JudgingArguments {
    /// The questions (JSON Lines).
    #[arg(long, value_name = "Q.jsonl")]
    questions: PathBuf,
    /// Answers, a file each model; its name is the model's id.
    #[arg(long, value_name = "A.jsonl", num_args = 1.., required = true)]
    answers: Vec<PathBuf>,
    /// Reference answers for math, coding and reasoning.
    #[arg(long, value_name = "R.jsonl")]
    references: Option<PathBuf>,
    /// The judge's prompts (FastChat's judge_prompts.jsonl); without it our own wording, which is not MT-Bench's.
    #[arg(long, value_name = "P.jsonl")]
    prompts: Option<PathBuf>,
    /// Rate each answer, or play it against a baseline's.
    #[arg(long, value_enum, default_value = "single")]
    mode: ModeArgument,
    /// The baseline's answers in pairwise mode.
    #[arg(long, value_name = "B.jsonl", required_if_eq("mode", "pairwise"))]
    baseline_answers: Option<PathBuf>,
    /// Where the judgments go, as FastChat writes them.
    #[arg(long, value_name = "J.jsonl")]
    output: PathBuf,
    #[command(flatten)]
    judge: JudgeArguments,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeArgument {
    /// A rating from 1 to 10 for each turn.
    Single,
    /// Two games a turn, places swapped.
    Pairwise,
}

/// Tokens of a reply, as expected.
const REPLY_TOKENS: u64 = 200;

fn read_prompts(path: Option<&PathBuf>, mode: Mode) -> Result<Prompts, Failure> {
    let prompts = match path {
        Some(path) => Prompts::read(path)?,
        None => Prompts::own(),
    };
    if let Some(label) = prompts.label(mode) {
        note!("{label}");
    }
    Ok(prompts)
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Answers>, EvalError> {
    paths.iter().map(|path| read_answers(path)).collect()
}

fn wanted_game(game: &PairGame) -> Wanted<'_> {
    let name = Map::from_iter([
        ("question_id".to_owned(), json!(game.question_id)),
        ("model_1".to_owned(), json!(game.model_1)),
        ("turn".to_owned(), json!(game.turn)),
        ("game".to_owned(), json!(game.game)),
    ]);
    Wanted { name, user_prompt: game.user_prompt(), template_sha256: &game.template_sha256 }
}

fn wanted_call(call: &SingleCall) -> Wanted<'_> {
    let name = Map::from_iter([
        ("question_id".to_owned(), json!(call.question_id)),
        ("model".to_owned(), json!(call.model)),
        ("turn".to_owned(), json!(call.turn)),
    ]);
    Wanted { name, user_prompt: call.user_prompt(), template_sha256: &call.template_sha256 }
}

fn judge(arguments: &JudgingArguments) -> Result<(), Failure> {
    let mut questions = Questions::read(&arguments.questions)?;
    let mut answers = read_all(&arguments.answers)?;
    let limit = arguments.judge.limit;
    let beyond = take_first(limit, &mut questions.rows, &mut answers, |question| question.question_id)?;
    let references = arguments.references.as_ref().map(|path| read_answers(path)).transpose()?;
    if let Some(doubts) = references.as_ref().and_then(mt_bench::doubts) {
        note!("{doubts}");
    }
    let inputs: Vec<PathBuf> = std::iter::once(&arguments.questions)
        .chain(&arguments.answers)
        .chain(&arguments.references)
        .chain(&arguments.prompts)
        .chain(&arguments.baseline_answers)
        .cloned()
        .collect();
    let (judge, output) = (&arguments.judge, &arguments.output);
    let params = mt_bench::params();
    let judging = match (arguments.mode, &arguments.baseline_answers) {
        (ModeArgument::Pairwise, Some(baseline)) => {
            let prompts = read_prompts(arguments.prompts.as_ref(), Mode::Pairwise)?;
            let baseline = read_answers(baseline)?;
            let games = pair_games(&questions, &answers, &baseline, references.as_ref(), &prompts)?;
            let wanted = games.iter().map(wanted_game).collect::<Vec<_>>();
            judge.check_output(output, &inputs, &wanted, &params, &beyond)?;
            let Some(judging) = judge.judge(&games, &params, REPLY_TOKENS, output, &wanted)? else {
                return Ok(());
            };
            write_judgments(output, &pair_rows(&games, &judging.judged, &judge.judge_model), true)?;
            judging
        }
        _ => {
            let prompts = read_prompts(arguments.prompts.as_ref(), Mode::Single)?;
            let calls = single_calls(&questions, &answers, references.as_ref(), &prompts)?;
            let wanted = calls.iter().map(wanted_call).collect::<Vec<_>>();
            judge.check_output(output, &inputs, &wanted, &params, &beyond)?;
            let Some(judging) = judge.judge(&calls, &params, REPLY_TOKENS, output, &wanted)? else {
                return Ok(());
            };
            write_judgments(output, &single_rows(&calls, &judging.judged, &judge.judge_model), true)?;
            judging
        }
    };
    judging.end()
}

#[derive(Args)]
pub struct ShowArguments {
    /// Judgments (FastChat's model_judgment files).
    #[arg(long, value_name = "J.jsonl", num_args = 1.., required = true)]
    judgments: Vec<PathBuf>,
    /// The questions, for categories and the number of judgments there should be.
    #[arg(long, value_name = "Q.jsonl")]
    questions: Option<PathBuf>,
    /// The answers that were judged: only judgments of these count.
    #[arg(long, value_name = "A.jsonl", num_args = 1.., requires = "questions")]
    answers: Vec<PathBuf>,
    /// The judge's prompts.
    #[arg(long, value_name = "P.jsonl")]
    prompts: Option<PathBuf>,
    /// Reference answers.
    #[arg(long, value_name = "R.jsonl")]
    references: Option<PathBuf>,
    /// The judge whose rows count, where there are several.
    #[arg(long, value_name = "NAME")]
    judge: Option<String>,
    /// Puts the means that FastChat prints first, and takes conflicts as it does.
    #[arg(long, value_enum)]
    compat: Option<Compat>,
    /// Draws the categories of all models (SVG).
    #[arg(long, value_name = "OUT.svg")]
    plot: Option<PathBuf>,
    /// Where `asft eval judge calibrate` left what is known of judges.
    #[arg(long, value_name = "DIR", default_value = "cache/judge")]
    cache: PathBuf,
    /// Compares two models question by question; may be repeated.
    #[arg(long, value_name = "ID1,ID2", value_parser = two_ids)]
    compare: Vec<(String, String)>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compat {
    /// FastChat's show_result.
    Fastchat,
}

fn two_ids(text: &str) -> Result<(String, String), String> {
    match text.split_once(',') {
        Some((one, two)) if !one.is_empty() && !two.is_empty() => Ok((one.to_owned(), two.to_owned())),
        _ => Err("two models with a comma between them are needed".to_owned()),
    }
}

fn shown(arguments: &ShowArguments) -> Result<(), Failure> {
    let files: Vec<JudgmentFile> =
        arguments.judgments.iter().map(|path| JudgmentFile::read(path)).collect::<Result<_, _>>()?;
    let questions = arguments.questions.as_ref().map(|path| Questions::read(path)).transpose()?;
    let prompts = arguments.prompts.as_ref().map(|path| Prompts::read(path)).transpose()?;
    let references = arguments.references.as_ref().map(|path| read_answers(path)).transpose()?;
    let calls = match (&questions, arguments.answers.is_empty()) {
        (Some(questions), false) => {
            let own = Prompts::own();
            let prompts = prompts.as_ref().unwrap_or(&own);
            Some(calls_of_answered(questions, &read_all(&arguments.answers)?, references.as_ref(), prompts)?)
        }
        _ => None,
    };
    let options = Options {
        judge: arguments.judge.as_deref(),
        questions: questions.as_ref(),
        prompts: prompts.as_ref(),
        calls: calls.as_deref(),
        compare: &arguments.compare,
    };
    if let Some(path) = &arguments.plot {
        if path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("svg")) {
            let hint = "hint: name a file that ends in .svg";
            return Err(Failure::input(format!("--plot {}: is drawn as SVG\n{hint}", path.display())));
        }
        let inputs = arguments.judgments.iter().chain(&arguments.answers).chain(&arguments.questions);
        let inputs: Vec<PathBuf> =
            inputs.chain(&arguments.prompts).chain(&arguments.references).cloned().collect();
        output::check_writable(path, &inputs)?;
    }
    let shown = show(&files, &options)?;
    if let Some(path) = &arguments.plot {
        let models = shown.summary.models.iter();
        let models: Vec<_> = models.map(|model| (model.model.clone(), model.by_category.clone())).collect();
        categories::plot(&models, questions.is_some(), path)?;
    }
    calibration::warn(&arguments.cache, "mt-bench", &shown.summary.judge)?;
    match arguments.json {
        true => print_json(&shown.summary)?,
        false => output::print(&as_text(&shown, arguments.compat.is_some()))?,
    }
    match arguments.compat {
        Some(Compat::Fastchat) => Ok(()),
        None => Ok(shown.check()?),
    }
}

/// The calls of each model's answers, which need not be to all questions.
fn calls_of_answered(
    questions: &Questions,
    answers: &[Answers],
    references: Option<&Answers>,
    prompts: &Prompts,
) -> Result<Vec<SingleCall>, EvalError> {
    distinct_ids(answers.iter().map(|file| file.id.as_str()))?;
    let mut calls = vec![];
    for file in answers {
        let answered = questions.rows.iter().filter(|question| file.rows.contains_key(&question.question_id));
        let answered = Questions { rows: answered.cloned().collect() };
        calls.extend(single_calls(&answered, std::slice::from_ref(file), references, prompts)?);
    }
    Ok(calls)
}

fn as_text(shown: &Shown, fastchat: bool) -> String {
    let Summary { label, settings, judge, models, compare, pairs } = &shown.summary;
    let mut text = format!("judge: {judge}\n");
    for said in label.iter().copied().chain(settings.as_deref()) {
        text += &format!("{said}\n");
    }
    for conflict in &shown.conflicts {
        text += &format!(
            "{}: {} judgments have rows with different prompts, so that it has no score but FastChat's\n",
            conflict.model,
            conflict.keys.len()
        );
    }
    if fastchat {
        let rows: Vec<[String; 5]> = models
            .iter()
            .map(|model| {
                let means = &model.fastchat;
                let of = |value| number(value, 6);
                [
                    model.model.clone(),
                    of(means.turn1),
                    of(means.turn2),
                    of(means.average),
                    means.rows.to_string(),
                ]
            })
            .collect();
        text += &format!("\n{}", table(["FastChat's means", "turn 1", "turn 2", "average", "rows"], &rows));
    }
    if !models.is_empty() {
        let rows: Vec<[String; 7]> = models
            .iter()
            .map(|model| {
                let of = |value| number(value, 2);
                [
                    model.model.clone(),
                    of(model.turn1),
                    of(model.turn2),
                    of(model.average),
                    interval(model.ci95, 2),
                    interval(model.bootstrap95, 2),
                    format!("{}/{}", model.n, model.expected),
                ]
            })
            .collect();
        text += &format!(
            "\n{}",
            table(["model", "turn 1", "turn 2", "average", "95% interval", "by drawing", "n"], &rows)
        );
    }
    for model in models {
        let categories: Vec<String> =
            model.by_category.iter().map(|(name, mean)| format!("{name} {mean:.2}")).collect();
        if !categories.is_empty() {
            text += &format!("\n{}: {}\n", model.model, categories.join(", "));
        }
        let others: Vec<String> = model
            .statuses
            .iter()
            .filter(|(status, _)| **status != asft_eval::judge::Status::Ok)
            .map(|(status, count)| format!("{} {count}", status.name()))
            .collect();
        if !others.is_empty() {
            text += &format!("{}: without a rating that counts: {}\n", model.model, others.join(", "));
        }
        if model.n > 0 && model.questions < FEW_QUESTIONS {
            text += &format!("{}: few questions ({})\n", model.model, model.questions);
        }
        if model.repeated_rows > 0 {
            text += &format!(
                "{}: {} repeated rows, of which the last valid one counts\n",
                model.model, model.repeated_rows
            );
        }
    }
    for compared in compare {
        text += &format!(
            "\n{} − {} over {} shared questions: {} (95% {}){}; smallest difference that would show: {}\n",
            compared.a,
            compared.b,
            compared.questions,
            number(compared.mean, 3),
            interval(compared.ci95, 3),
            match compared.ci95 {
                Some([low, high]) if low <= 0.0 && high >= 0.0 => ", not distinguishable",
                _ => "",
            },
            number(compared.smallest_detectable, 3)
        );
        if compared.mean.is_some() && compared.questions < FEW_QUESTIONS {
            text += &format!("few questions ({})\n", compared.questions);
        }
    }
    for pair in pairs {
        text += &format!(
            "\n{}: {} wins, {} losses, {} ties; adjusted win rate {}\n",
            pair.model,
            pair.wins,
            pair.losses,
            pair.ties,
            number(pair.win_rate_adjusted, 3)
        );
    }
    text
}
