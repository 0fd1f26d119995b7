//! `asft eval judge`.

use std::{fs::OpenOptions, io::Write, path::PathBuf};

use asft_eval::{
    arena_hard,
    calibrate::{Calibration, calibrate},
    files,
    import::Import,
    jsonl,
    judge::{
        Cache, Entry,
        stub::{Replies, Script, Service, Stub},
    },
    judge_behaviour::Behaviour,
    mt_bench,
};
use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use serde_json::json;

use super::{
    calibration, print_json,
    table::{number, table},
};
use crate::{
    failure::Failure,
    output::{self, note},
};

#[derive(Subcommand)]
pub enum Command {
    /// Put recorded judgments into a judge's cache, to be replayed.
    Import(ImportArguments),
    /// How a substitute judge agrees with recorded verdicts on the same answers.
    Calibrate(CalibrateArguments),
    /// A server on this machine that plays a judge called stub or stub-NAME, with faults on demand.
    Stub(StubArguments),
}

pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Import(arguments) => import(&arguments),
        Command::Calibrate(arguments) => calibrated(&arguments),
        Command::Stub(arguments) => stub(&arguments),
    }
}

#[derive(Args)]
pub struct ImportArguments {
    /// The cache that the replies go to.
    #[arg(long, value_name = "DIR")]
    cache: PathBuf,
    /// FastChat's judgments.
    #[arg(long, value_name = "J.jsonl", num_args = 1.., required_unless_present = "arena_hard", conflicts_with = "arena_hard")]
    fastchat: Vec<PathBuf>,
    /// Arena-Hard's judgments.
    #[arg(long, value_name = "J.jsonl", num_args = 1..)]
    arena_hard: Vec<PathBuf>,
    /// The prompts they were judged with: judge_prompts.jsonl or judge_config.yaml.
    #[arg(long, value_name = "P")]
    prompts: PathBuf,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

fn import(arguments: &ImportArguments) -> Result<(), Failure> {
    let import: Import = match arguments.fastchat.is_empty() {
        false => {
            let files: Vec<_> = arguments
                .fastchat
                .iter()
                .map(|path| mt_bench::JudgmentFile::read(path))
                .collect::<Result<_, _>>()?;
            mt_bench::import(&files, &mt_bench::Prompts::read(&arguments.prompts)?)?
        }
        true => {
            let files: Vec<_> = arguments
                .arena_hard
                .iter()
                .map(|path| arena_hard::JudgmentFile::read(path))
                .collect::<Result<_, _>>()?;
            arena_hard::import(&files, &arena_hard::JudgeConfig::read(&arguments.prompts)?)?
        }
    };
    let inputs = if arguments.fastchat.is_empty() { &arguments.arena_hard } else { &arguments.fastchat };
    let source = inputs.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let cache = Cache::open(&arguments.cache)?;
    let mut there = 0;
    for entry in &import.entries {
        let entry = Entry::new(
            &entry.judge,
            &entry.messages,
            entry.params.clone(),
            entry.attempt,
            entry.reply.clone(),
            &source,
            entry.created,
        );
        there += usize::from(cache.insert(entry)?.is_some());
    }
    for differing in &import.differing {
        note!("{differing}");
    }
    let counts = json!({
        "rows": import.rows,
        "skipped": import.skipped,
        "replaced": import.replaced,
        "keys": import.entries.len(),
        "known_before": there,
        "differing": import.differing.len(),
    });
    match arguments.json {
        true => print_json(&counts),
        false => output::print(&format!(
            "{} judgments: {} without a reply passed over, {} replaced by later ones, {} kept ({there} of them were there)\n{} have another verdict in the file than in their text\n",
            import.rows,
            import.skipped,
            import.replaced,
            import.entries.len(),
            import.differing.len()
        )),
    }
}

#[derive(Args)]
pub struct CalibrateArguments {
    /// Judgments of a published judge.
    #[arg(long, value_name = "J.jsonl")]
    recorded: PathBuf,
    /// The substitute's judgments of the same answers.
    #[arg(long, value_name = "J2.jsonl")]
    substitute: PathBuf,
    /// MT-Bench's questions, for categories.
    #[arg(long, value_name = "Q.jsonl")]
    questions: Option<PathBuf>,
    /// Arena-Hard's answers of baseline and models, for lengths.
    #[arg(long, value_name = "A.jsonl", num_args = 1..)]
    answers: Vec<PathBuf>,
    /// The substitute's cache, where the result is kept for `show`.
    #[arg(long, value_name = "DIR", requires = "judge_model")]
    cache: Option<PathBuf>,
    /// The substitute's name there.
    #[arg(long, value_name = "NAME", requires = "cache", value_parser = NonEmptyStringValueParser::new())]
    judge_model: Option<String>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

fn calibrated(arguments: &CalibrateArguments) -> Result<(), Failure> {
    let questions = arguments.questions.as_ref().map(|path| mt_bench::Questions::read(path)).transpose()?;
    let answers: Vec<_> =
        arguments.answers.iter().map(|path| arena_hard::read_answers(path)).collect::<Result<_, _>>()?;
    let calibration = calibrate(&arguments.recorded, &arguments.substitute, questions.as_ref(), &answers)?;
    if let (Some(cache), Some(judge)) = (&arguments.cache, &arguments.judge_model) {
        for (row, value) in jsonl::read(&arguments.substitute)? {
            let own = value["judge"].as_str().or(value["judge"][0].as_str());
            if let Some(own) = own.filter(|own| own != judge) {
                return Err(Failure::input(format!(
                    "{}:{row}: is a judgment by {own}, not by {judge}\nhint: --judge-model names the judge of --substitute",
                    arguments.substitute.display()
                )));
            }
        }
        files::make_folder(cache)?;
        let (benchmark, spearman) = match &calibration {
            Calibration::Ratings(ratings) => ("mt-bench", ratings.all.spearman),
            Calibration::Verdicts(verdicts) => ("arena-hard", verdicts.spearman),
        };
        let kept = json!({
            "judge": judge, "items": calibration.items(), "spearman": spearman, "calibration": calibration,
        });
        output::write_file(&calibration::file(cache, benchmark, judge), format!("{kept:#}\n").as_bytes())?;
    }
    match arguments.json {
        true => print_json(&calibration),
        false => output::print(&as_text(&calibration)),
    }
}

fn as_text(calibration: &Calibration) -> String {
    let of = |value: f64| number(Some(value), 3);
    match calibration {
        Calibration::Ratings(ratings) => {
            let all = &ratings.all;
            let rows = [
                ["mean of recorded".to_owned(), of(all.mean_recorded)],
                ["mean of substitute".to_owned(), of(all.mean_substitute)],
                ["bias".to_owned(), of(all.bias)],
                ["mean absolute error".to_owned(), of(all.mae)],
                ["root mean square error".to_owned(), of(all.rmse)],
                ["equal".to_owned(), of(all.exact)],
                ["within 1".to_owned(), of(all.within_1)],
                ["Pearson".to_owned(), number(all.pearson, 3)],
                ["Spearman".to_owned(), number(all.spearman, 3)],
                ["Kendall tau-b".to_owned(), number(all.kendall_tau_b, 3)],
                ["quadratic kappa".to_owned(), number(all.quadratic_kappa, 3)],
            ];
            let mut text = table([&format!("{} ratings on both sides", all.n), ""], &rows);
            let categories = ratings.by_category.iter();
            let categories: Vec<String> =
                categories.map(|(name, bias)| format!("{name} {:+.2}", bias.bias)).collect();
            if !categories.is_empty() {
                text += &format!("\nbias by category: {}\n", categories.join(", "));
            }
            if let Some(line) = all.recorded_from_substitute {
                text += &format!(
                    "\nleast squares: recorded = {:.3} · substitute {:+.3}; shown, and never applied to a score\n",
                    line.slope, line.intercept
                );
            }
            text + &format!(
                "{} keys valid on the recorded side only, {} on the substitute's\n",
                ratings.only_recorded_valid, ratings.only_substitute_valid
            )
        }
        Calibration::Verdicts(verdicts) => {
            let (one, two) = (&verdicts.recorded, &verdicts.substitute);
            let rows = [
                ["score".to_owned(), number(one.win_rate, 2), number(two.win_rate, 2)],
                ["decisive games".to_owned(), one.decisive_games.to_string(), two.decisive_games.to_string()],
                [
                    "won by the answer shown first".to_owned(),
                    number(one.first_shown_wins, 3),
                    number(two.first_shown_wins, 3),
                ],
                ["position bias".to_owned(), number(one.position_bias, 3), number(two.position_bias, 3)],
                [
                    "same sign when swapped".to_owned(),
                    number(one.swap_same_sign, 3),
                    number(two.swap_same_sign, 3),
                ],
                [
                    "length, Spearman".to_owned(),
                    number(one.length_spearman, 3),
                    number(two.length_spearman, 3),
                ],
            ];
            let agreement = [
                ["same verdict".to_owned(), of(verdicts.exact_5way)],
                ["same side".to_owned(), of(verdicts.same_sign)],
                ["opposite sides".to_owned(), of(verdicts.opposite_sign)],
                ["kappa of sides".to_owned(), number(verdicts.kappa_3way, 3)],
                ["quadratic kappa".to_owned(), number(verdicts.quadratic_kappa_5way, 3)],
                ["Spearman".to_owned(), number(verdicts.spearman, 3)],
            ];
            table([&format!("{} games on both sides", verdicts.games_compared), ""], &agreement)
                + "\n"
                + &table(["each judge alone", "recorded", "substitute"], &rows)
        }
    }
}

#[derive(Args)]
pub struct StubArguments {
    /// Where it listens; loopback only. Port 0 is any that is free.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    bind: String,
    /// Answers what a cache holds.
    #[arg(long, value_name = "DIR", required_unless_present = "behave", conflicts_with = "behave")]
    replay: Option<PathBuf>,
    /// Answers by a rule: fixed:R, always-a, always-b, always-tie, first-strong, longer, hash, noisy:P:SEED.
    #[arg(long, value_name = "NAME[:ARGS]")]
    behave: Option<String>,
    /// Faults, one JSON object a line.
    #[arg(long, value_name = "FAULTS.jsonl")]
    script: Option<PathBuf>,
    /// A line for each request.
    #[arg(long, value_name = "L.jsonl")]
    log: Option<PathBuf>,
}

fn stub(arguments: &StubArguments) -> Result<(), Failure> {
    let replies = match (&arguments.replay, &arguments.behave) {
        (Some(directory), _) => Replies::replay(directory)?,
        (None, Some(rule)) => Replies::Behave(
            Behaviour::parse(rule).map_err(|error| Failure::input(format!("--behave {rule}: {error}")))?,
        ),
        (None, None) => unreachable!("the arguments ask for one of them"),
    };
    let script = match &arguments.script {
        Some(path) => Script::read(path)?,
        None => Script::default(),
    };
    let log = match &arguments.log {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(|error| Failure::input(format!("--log {}: {error}", path.display())))?;
            Some(Box::new(file) as Box<dyn Write + Send>)
        }
        None => None,
    };
    let stub = Stub::bind(&arguments.bind)?;
    output::print(&format!("{}\n", stub.base_url()))?;
    Ok(stub.serve(Service::new(replies, script, log))?)
}
