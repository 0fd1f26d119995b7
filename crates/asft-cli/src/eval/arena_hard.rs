//! `asft eval arena-hard`.

use std::path::PathBuf;

use asft_data::template::today;
use asft_eval::{
    EvalError, Sampling,
    arena_hard::{
        self, Answers, ArenaGame, BattleFile, JudgeConfig, JudgmentFile, Options, Question, Questions,
        RETRY_MESSAGE, StyledScore, Summary, Turn, csv, games, read_answers, rows, show, show_battles,
    },
    derived_seed, files,
    schema::Kind,
    statistics::FEW_QUESTIONS,
};
use clap::{Args, Subcommand};
use serde_json::{Map, json};

use super::{
    answers::{self, Asked},
    calibration,
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
    /// Answer the questions.
    Answer(AnswerArguments),
    /// Have answers judged against the baseline's, two games each.
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
    #[arg(long, default_value_t = 4096, value_parser = whole(1usize))]
    max_new_tokens: usize,
}

/// A question with what its answer is drawn with.
struct Drawn<'a> {
    question: &'a Question,
    max_new_tokens: usize,
    seed: u64,
}

impl Asked for Drawn<'_> {
    type Id = String;
    type Turn = Turn;

    fn id(&self) -> String {
        self.question.question_id.clone()
    }

    fn turns(&self) -> Vec<&str> {
        self.question.turns.iter().map(|turn| turn.content.as_str()).collect()
    }

    fn sampling(&self, _: usize) -> Sampling {
        let seed = derived_seed(self.seed, &[&self.question.question_id]);
        Sampling { temperature: 0.0, top_k: None, top_p: None, max_new_tokens: self.max_new_tokens, seed }
    }

    fn turn(text: String) -> Turn {
        Turn { content: text, token_len: None, other: Map::new() }
    }
}

fn answer(arguments: &AnswerArguments) -> Result<(), Failure> {
    let questions = Questions::read(&arguments.answers.questions)?;
    let (max_new_tokens, seed) = (arguments.max_new_tokens, arguments.answers.seed);
    let drawn: Vec<_> =
        questions.rows.iter().map(|question| Drawn { question, max_new_tokens, seed }).collect();
    answers::answer(&arguments.answers, Kind::ArenaHardAnswer, &drawn)
}

#[derive(Args)]
pub struct JudgingArguments {
    /// The questions (JSON Lines).
    #[arg(long, value_name = "Q.jsonl")]
    questions: PathBuf,
    /// Answers, a file each model; its name is the model's id.
    #[arg(long, value_name = "A.jsonl", num_args = 1.., required = true)]
    answers: Vec<PathBuf>,
    /// The baseline's answers.
    #[arg(long, value_name = "B.jsonl")]
    baseline_answers: PathBuf,
    /// The judge's texts (arena-hard-auto's judge_config.yaml); without it our own wording, which is not Arena-Hard's.
    #[arg(long, value_name = "P.yaml")]
    prompts: Option<PathBuf>,
    /// Directory of the judgments, a file each model.
    #[arg(long, value_name = "DIR")]
    output_dir: PathBuf,
    #[command(flatten)]
    judge: JudgeArguments,
}

/// Tokens of a reply, as expected.
const REPLY_TOKENS: u64 = 600;

fn read_all(paths: &[PathBuf]) -> Result<Vec<Answers>, EvalError> {
    paths.iter().map(|path| read_answers(path)).collect()
}

fn wanted_game(game: &ArenaGame) -> Wanted<'_> {
    let name = Map::from_iter([
        ("question_id".to_owned(), json!(game.question_id)),
        ("model".to_owned(), json!(game.model)),
        ("game".to_owned(), json!(game.game)),
    ]);
    Wanted { name, user_prompt: game.user_prompt(), template_sha256: &game.template_sha256 }
}

fn judge(arguments: &JudgingArguments) -> Result<(), Failure> {
    let mut questions = Questions::read(&arguments.questions)?;
    let mut answers = read_all(&arguments.answers)?;
    let limit = arguments.judge.limit;
    let beyond = take_first(limit, &mut questions.rows, &mut answers, |row| row.question_id.clone())?;
    asft_eval::answer_file::distinct_ids(answers.iter().map(|file| file.id.as_str()))?;
    let baseline = read_answers(&arguments.baseline_answers)?;
    let config = match &arguments.prompts {
        Some(path) => JudgeConfig::read(path)?,
        None => JudgeConfig::own(),
    };
    if let Some(label) = config.label() {
        note!("{label}");
    }
    let settings = arguments.judge.settings()?;
    let retry_message = settings.retry_message.as_deref().unwrap_or(RETRY_MESSAGE);
    let (mut all, mut counts) = (vec![], vec![]);
    for answers in &answers {
        let games = games(&questions, answers, &baseline, &config, retry_message)?;
        counts.push(games.len());
        all.extend(games);
    }
    let directory = &arguments.output_dir;
    if !arguments.judge.dry_run {
        files::make_folder(directory)?;
    }
    let params = arena_hard::params();
    let wanted: Vec<Wanted<'_>> = all.iter().map(wanted_game).collect();
    let file = |answers: &Answers| directory.join(format!("{}.jsonl", answers.id));
    let inputs: Vec<PathBuf> = [&arguments.questions, &arguments.baseline_answers]
        .into_iter()
        .chain(&arguments.answers)
        .chain(&arguments.prompts)
        .cloned()
        .collect();
    for answers in &answers {
        arguments.judge.check_output(&file(answers), &inputs, &wanted, &params, &beyond)?;
    }
    let judged = arguments.judge.judge(&all, &params, REPLY_TOKENS, directory, &wanted)?;
    let Some(judging) = judged else { return Ok(()) };
    let mut from = 0;
    for (answers, count) in answers.iter().zip(counts) {
        let these = from..from + count;
        from = these.end;
        let rows = rows(&all[these.clone()], &judging.judged[these], &arguments.judge.judge_model);
        let retried = arena_hard::retried(&rows);
        if retried > 0 {
            note!("{}: {retried} games were asked again for a verdict", answers.id);
        }
        write_judgments(&file(answers), &rows, false)?;
    }
    judging.end()
}

#[derive(Args)]
pub struct ShowArguments {
    /// Judgments, a file each model.
    #[arg(long, value_name = "J.jsonl", num_args = 1.., required_unless_present = "battles")]
    judgments: Vec<PathBuf>,
    /// Battles in place of judgments.
    #[arg(long, value_name = "B.jsonl", conflicts_with_all = ["judgments", "judge"])]
    battles: Option<PathBuf>,
    /// The questions, for the number of games there should be.
    #[arg(long, value_name = "Q.jsonl", conflicts_with = "battles")]
    questions: Option<PathBuf>,
    /// Whom all models played against.
    #[arg(long, value_name = "ID", default_value = arena_hard::BASELINE)]
    baseline: String,
    /// Answers of models and baseline, for lengths, style, and the check of the baseline.
    #[arg(long, value_name = "A.jsonl", num_args = 1..)]
    answers: Vec<PathBuf>,
    /// The judge whose rows count, where there are several.
    #[arg(long, value_name = "NAME")]
    judge: Option<String>,
    /// Takes style out, as v0.1 does and at equal style.
    #[arg(long)]
    style_control: bool,
    /// Writes the table that leaderboards publish.
    #[arg(long, value_name = "OUT.csv")]
    csv: Option<PathBuf>,
    /// Where `asft eval judge calibrate` left what is known of judges.
    #[arg(long, value_name = "DIR", default_value = "cache/judge")]
    cache: PathBuf,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

fn shown(arguments: &ShowArguments) -> Result<(), Failure> {
    if let Some(path) = &arguments.csv {
        let inputs = arguments.judgments.iter().chain(&arguments.answers).chain(&arguments.battles);
        output::check_writable(path, &inputs.cloned().collect::<Vec<_>>())?;
    }
    let answers = read_all(&arguments.answers)?;
    let questions = arguments.questions.as_ref().map(|path| Questions::read(path)).transpose()?;
    let options = Options {
        questions: questions.as_ref(),
        baseline: &arguments.baseline,
        judge: arguments.judge.as_deref(),
        answers: &answers,
        style_control: arguments.style_control,
    };
    let summary = match &arguments.battles {
        Some(path) => show_battles(&BattleFile::read(path)?, &options)?,
        None => {
            let files: Vec<JudgmentFile> =
                arguments.judgments.iter().map(|path| JudgmentFile::read(path)).collect::<Result<_, _>>()?;
            show(&files, &options)?
        }
    };
    if let Some(path) = &arguments.csv {
        let baseline = answers.iter().find(|file| file.id == arguments.baseline);
        let tokens = baseline.and_then(Answers::average_tokens);
        output::write_file(path, csv(&summary, tokens, &today()).as_bytes())?;
    }
    if let Some(judge) = &summary.judge {
        calibration::warn(&arguments.cache, "arena-hard", judge)?;
    }
    match arguments.json {
        true => print_json(&summary),
        false => output::print(&as_text(&summary)),
    }
}

fn as_text(summary: &Summary) -> String {
    let mut text = format!(
        "baseline: {}\njudge: {}\n",
        summary.baseline,
        summary.judge.as_deref().unwrap_or("not told by battles")
    );
    for said in summary.label.iter().copied().chain(summary.settings.as_deref()) {
        text += &format!("{said}\n");
    }
    let rows: Vec<[String; 6]> = summary
        .models
        .iter()
        .map(|model| {
            [
                model.model.clone(),
                number(model.score, 2),
                interval(model.ci95_question, 2),
                interval(model.ci95_v01, 2),
                number(model.position_bias, 3),
                model.avg_tokens.map_or("–".to_owned(), |tokens| tokens.to_string()),
            ]
        })
        .collect();
    let header = ["model", "score", "95% by question", "95% of v0.1", "position bias", "tokens"];
    text += &format!("\n{}", table(header, &rows));
    text += "the interval of v0.1 takes the games of a question as independent and is too narrow\n";
    for model in &summary.models {
        if let (Some(games), Some(dropped)) = (model.games, model.games_dropped) {
            let others = model.statuses.iter().filter(|(status, _)| **status != asft_eval::judge::Status::Ok);
            let others: Vec<String> =
                others.map(|(status, count)| format!("{} {count}", status.name())).collect();
            text += &format!("{}: {games} games, {dropped} without a verdict", model.model);
            text += &if others.is_empty() { "\n".to_owned() } else { format!(" ({})\n", others.join(", ")) };
        }
        if model.questions < FEW_QUESTIONS {
            text += &format!("{}: few questions ({})\n", model.model, model.questions);
        }
        let styled = |name: &str, styled: &Option<StyledScore>| {
            styled.as_ref().map_or(String::new(), |styled| {
                let [tokens, headers, lists, bold] = styled.coef;
                format!(
                    "{}, {name}: {:.2} (95% {}); weights: tokens {tokens:.3}, headers {headers:.3}, lists {lists:.3}, bold {bold:.3}\n",
                    model.model,
                    styled.score,
                    interval(styled.ci95, 2)
                )
            })
        };
        text += &styled("style control of v0.1", &model.style_control);
        text += &styled("at equal style (our own)", &model.equal_style);
    }
    text
}
