//! Having items judged: the options that judging commands share, the plan, the run and its progress.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Display,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use asft_eval::{
    Judged,
    answer_file::AnswerFile,
    jsonl,
    judge::{
        Budget, Cache, Endpoint, Item, JudgeRun, Judgment, Limits, Observer, Params, Prices, Settings,
        Status, SystemClock, Transport, failures_path, jitter, plan, write_failures,
    },
};
use clap::{Args, builder::NonEmptyStringValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::print_json;
use crate::{
    failure::Failure,
    number::{seconds, whole},
    output::{self, check_writable, note},
    train::interruptible,
};

/// Which judge, and how it may be asked.
#[derive(Args)]
pub struct JudgeArguments {
    /// The judge, as its server calls it.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub judge_model: String,
    /// Where it is: any server of OpenAI's protocol.
    #[arg(long, value_name = "URL", default_value = "https://api.openai.com/v1")]
    base_url: String,
    /// The environment variable that holds the key.
    #[arg(long, value_name = "VAR", default_value = "OPENAI_API_KEY")]
    api_key_env: String,
    /// Replies are kept here, and nothing is asked twice.
    #[arg(long, value_name = "DIR", default_value = "cache/judge")]
    cache: PathBuf,
    /// Requests under way at a time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = whole(1usize))]
    parallel: usize,
    /// Requests a minute at most.
    #[arg(long, value_name = "N")]
    rpm: Option<f64>,
    /// Tokens a minute at most.
    #[arg(long, value_name = "N")]
    tpm: Option<f64>,
    /// Seconds that a request may take.
    #[arg(long, value_name = "S", default_value = "180", value_parser = seconds)]
    timeout: Duration,
    /// How often a request is sent before its item fails.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = whole(1u32))]
    max_attempts: u32,
    /// Price of a million tokens in.
    #[arg(long, value_name = "X", requires = "price_out")]
    price_in: Option<f64>,
    /// Price of a million tokens out.
    #[arg(long, value_name = "X", requires = "price_in")]
    price_out: Option<f64>,
    /// Starts no request that could take the cost beyond this.
    #[arg(long, value_name = "X")]
    max_spend: Option<f64>,
    /// Judges only the answers to the first questions.
    #[arg(long, value_name = "N", value_parser = whole(1usize))]
    pub limit: Option<usize>,
    /// Sends nothing and prints what a run would take.
    #[arg(long)]
    pub dry_run: bool,
    /// Takes what the cache has and opens no connection.
    #[arg(long)]
    offline: bool,
    /// judge.id, judge.max_tokens_field, judge.temperature, judge.extra or judge.retry_message; may be repeated.
    #[arg(long = "set", value_name = "judge.KEY=VALUE")]
    assignments: Vec<String>,
}

impl JudgeArguments {
    /// What `--set` says.
    pub fn settings(&self) -> Result<Settings, Failure> {
        Ok(Settings::read(&self.assignments)?)
    }

    /// Fails if a file of judgments could not be written, or holds anything but judgments of these items by this judge
    /// that were asked for as they are now, before anything is asked. `beyond` are the questions after --limit.
    pub fn check_output(
        &self,
        output: &Path,
        inputs: &[PathBuf],
        wanted: &[Wanted<'_>],
        protocol: &Params,
        beyond: &BTreeSet<String>,
    ) -> Result<(), Failure> {
        if wanted.is_empty() {
            return Err(Failure::input("no answer is left to judge\nhint: answer the questions again"));
        }
        if self.dry_run {
            return Ok(());
        }
        check_writable(output, inputs)?;
        if !output.exists() {
            return Ok(());
        }
        let params = json!(self.settings()?.params(protocol));
        let fields: Vec<&String> = wanted[0].name.keys().collect();
        let key = |row: &Map<String, Value>, game: Value| {
            let value = |field: &&String| if *field == "game" { Some(&game) } else { row.get(*field) };
            format!("{:?}", fields.iter().map(value).collect::<Vec<_>>())
        };
        let known: HashMap<String, &Wanted<'_>> = wanted
            .iter()
            .map(|item| (key(&item.name, item.name.get("game").cloned().unwrap_or_default()), item))
            .collect();
        for (row, value) in jsonl::read(output)? {
            let wrong = |what: String, hint: &str| {
                Err(Failure::input(format!(
                    "{}:{row}: {what}, and the file would be replaced\nhint: {hint}",
                    output.display()
                )))
            };
            let by = value["judge"].as_str().or(value["judge"][0].as_str());
            let is_own = by.is_none_or(|judge| judge == self.judge_model);
            if let (true, Some(limit)) =
                (is_own && beyond.contains(&value["question_id"].to_string()), self.limit)
            {
                let what = format!("question {} lies beyond --limit {limit}", value["question_id"]);
                return wrong(what, "a higher --limit, or name another file");
            }
            for (game, asked, meta) in requests(&value) {
                let item = value.as_object().and_then(|row| known.get(&key(row, game)));
                let Some(item) = item.filter(|_| is_own) else {
                    let what = format!("is no judgment of these answers by {}", self.judge_model);
                    return wrong(what, "name another file");
                };
                let (template, was) = (&meta["template_sha256"], &meta["params"]);
                let what = if asked.as_str().is_some_and(|asked| asked != item.user_prompt) {
                    "was judged with other answers, references or prompts than now".to_owned()
                } else if template.as_str().is_some_and(|template| template != item.template_sha256) {
                    "was judged with other prompts than now".to_owned()
                } else if was.is_object() && *was != params {
                    format!("was judged with {was}, where it is {params} now")
                } else {
                    continue;
                };
                return wrong(what, "name another file, or move this one away");
            }
        }
        Ok(())
    }

    /// Has the items judged; those of `wanted` that fail are listed beside `output`. After a dry run, which prints its
    /// plan, there is nothing.
    pub fn judge<T: Item>(
        &self,
        items: &[T],
        protocol: &Params,
        reply_tokens: u64,
        output: &Path,
        wanted: &[Wanted<'_>],
    ) -> Result<Option<Judging>, Failure> {
        let settings = self.settings()?;
        let params = settings.params(protocol);
        let judge = settings.id.as_deref().unwrap_or(&self.judge_model);
        let prices = match (self.price_in, self.price_out) {
            (Some(input), Some(output)) => Some(Prices::per_million(input, output)?),
            _ => None,
        };
        let budget = Budget::new(prices, self.max_spend)?;
        budget.check(&params)?;
        let limits = Limits::per_minute(self.rpm, self.tpm)?;
        if self.dry_run {
            print_json(&plan(items, judge, &params, &Cache::read(&self.cache)?, reply_tokens, prices))?;
            return Ok(None);
        }
        let endpoint = match self.offline {
            true => None,
            false => Some(Endpoint::new(&self.base_url, &self.api_key_env, self.timeout)?),
        };
        let cache = match self.offline {
            true => Cache::read(&self.cache)?,
            false => Cache::open(&self.cache)?,
        };
        let interrupt = interruptible("stopping after the requests under way; replies so far are kept")?;
        let progress = Progress::new(items.len());
        let clock = SystemClock::start();
        let run = JudgeRun {
            judge,
            model: &self.judge_model,
            params: &params,
            cache: &cache,
            transport: endpoint.as_ref().map(|endpoint| endpoint as &dyn Transport),
            parallel: self.parallel,
            limits,
            budget: &budget,
            reply_tokens,
            max_attempts: self.max_attempts,
            clock: &clock,
            jitter: &jitter,
            observer: &progress,
            interrupt: &interrupt,
        };
        let outcome = run.run(items);
        progress.finish();
        let outcome = outcome?;
        let failures = failures_path(output);
        let listed = write_failures(&failures, &outcome.judgments, |item| wanted[item].name.clone())?;
        let spent = outcome.spent;
        note!(
            "{} requests, {} tokens in, {} out{}",
            outcome.requests,
            spent.prompt_tokens,
            spent.completion_tokens,
            spent.cost.map_or(String::new(), |cost| format!(", cost {cost:.4}"))
        );
        let mut errors: BTreeMap<&str, usize> = BTreeMap::new();
        for error in outcome.judgments.iter().filter_map(|judgment| judgment.error.as_deref()) {
            *errors.entry(error).or_default() += 1;
        }
        errors.iter().take(5).for_each(|(error, count)| note!("{count} items: {error}"));
        let mut statuses: BTreeMap<Status, usize> = BTreeMap::new();
        outcome.judgments.iter().for_each(|judgment| *statuses.entry(judgment.status).or_default() += 1);
        let statuses: Vec<String> =
            statuses.iter().map(|(status, count)| format!("{} {count}", status.name())).collect();
        note!("items by what became of them: {}", statuses.join(", "));
        // A blank reply is not kept, so that it is asked for again.
        let unanswered = outcome
            .judgments
            .iter()
            .filter(|judgment| {
                matches!(judgment.status, Status::ApiError | Status::Budget | Status::Missing | Status::Empty)
            })
            .count();
        let end = match (&outcome.stopped, outcome.interrupted) {
            (Some(why), _) => End::Failed(why.clone()),
            (None, true) => {
                End::Interrupted(format!("interrupted with {unanswered} of {} items open", items.len()))
            }
            (None, false) if unanswered > 0 => {
                End::Failed(format!("{unanswered} of {} items ended without an answer", items.len()))
            }
            _ => End::Whole,
        };
        let with_params = |judgment| Judged { params: params.clone(), ..Judged::from(judgment) };
        let judged = outcome.judgments.into_iter().map(with_params).collect();
        let mut hint = match self.offline {
            true => "hint: without --offline the same command asks for what the cache lacks; with other prompts or another judge than \
                     before it lacks all"
                .to_owned(),
            false => "hint: the same command asks again for just these".to_owned(),
        };
        if listed > 0 {
            hint += &format!("; {} lists the {listed} that failed", failures.display());
        }
        Ok(Some(Judging { judged, end, hint }))
    }
}

/// An item as files of judgments have it.
pub struct Wanted<'a> {
    /// The fields that name it.
    pub name: Map<String, Value>,
    /// The user's message.
    pub user_prompt: &'a str,
    /// The hash of the judge's prompt.
    pub template_sha256: &'a str,
}

/// The number of each game of a judgment, or null, with the user's message and what is kept beside it.
fn requests<'a>(judgment: &'a Value) -> Vec<(Value, &'a Value, &'a Value)> {
    if let Some(games) = judgment["games"].as_array() {
        let game = |(number, game): (usize, &'a Value)| (json!(number), &game["user_prompt"], &game["meta"]);
        return (1..).zip(games).map(game).collect();
    }
    let meta = &judgment["meta"];
    match judgment.get("g1_user_prompt") {
        Some(first) => vec![(json!(1), first, meta), (json!(2), &judgment["g2_user_prompt"], meta)],
        None => vec![(Value::Null, &judgment["user_prompt"], meta)],
    }
}

/// Leaves the first `limit` questions, and of the answers those to them; before that, all must be to these questions.
/// Gives the ids of the other questions, as JSON.
pub fn take_first<Q, I, T>(
    limit: Option<usize>,
    questions: &mut Vec<Q>,
    answers: &mut [AnswerFile<I, T>],
    id: impl Fn(&Q) -> I,
) -> Result<BTreeSet<String>, Failure>
where
    I: Ord + Clone + Display + Serialize + DeserializeOwned,
    T: Serialize + DeserializeOwned,
{
    let Some(limit) = limit.filter(|limit| *limit < questions.len()) else { return Ok(BTreeSet::new()) };
    let places: BTreeMap<I, usize> = questions.iter().map(&id).zip(0..).collect();
    for file in &mut *answers {
        file.only_questions(|question| places.contains_key(question))?;
        file.rows.retain(|question, _| places[question] < limit);
    }
    note!("the first {limit} of {} questions", questions.len());
    Ok(questions.drain(limit..).map(|question| json!(id(&question)).to_string()).collect())
}

/// Writes judgments in place of those that were there, unless they are fewer.
pub fn write_judgments(path: &Path, rows: &[impl Serialize], ascii: bool) -> Result<(), Failure> {
    let before = if path.exists() { jsonl::read(path)?.len() } else { 0 };
    if rows.len() < before {
        note!("{}: keeps its {before} judgments; this run has {} of them so far", path.display(), rows.len());
        return Ok(());
    }
    output::write_file(path, jsonl::lines(rows, ascii).as_bytes())
}

/// What a run gave.
pub struct Judging {
    /// One for each item.
    pub judged: Vec<Judged>,
    end: End,
    /// What to do where it did not end whole.
    hint: String,
}

enum End {
    Whole,
    Failed(String),
    Interrupted(String),
}

impl Judging {
    /// How the command ends, after what was had is written.
    pub fn end(self) -> Result<(), Failure> {
        let hint = self.hint;
        match self.end {
            End::Whole => Ok(()),
            End::Failed(why) => Err(Failure::Run(anyhow::anyhow!("{why}\n{hint}"))),
            End::Interrupted(what) => Err(Failure::Interrupted(format!("{what}\n{hint}"))),
        }
    }
}

/// A bar on a terminal, a line now and then elsewhere.
struct Progress {
    bar: ProgressBar,
    done: AtomicUsize,
    retries: AtomicUsize,
    total: usize,
}

impl Progress {
    fn new(total: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:20} {pos}/{len} [{elapsed} < {eta}] {wide_msg}")
            .expect("the template is well-formed");
        Self {
            bar: ProgressBar::new(total as u64).with_style(style),
            done: AtomicUsize::new(0),
            retries: AtomicUsize::new(0),
            total,
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Progress {
    fn finished(&self, _: usize, judgment: &Judgment) {
        // After an interrupt, what was not asked.
        if judgment.status == Status::Missing {
            return;
        }
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.bar.inc(1);
        if judgment.status != Status::Ok {
            self.bar.set_message(format!("last: {}", judgment.status.name()));
        }
        if self.bar.is_hidden() && (done == self.total || done.is_multiple_of(50)) {
            note!("through {done}/{}", self.total);
        }
    }

    fn retrying(&self, _: usize, why: &str, pause: Duration) {
        self.bar.set_message(format!("again in {:.0} s: {why}", pause.as_secs_f64()));
        if self.bar.is_hidden() && self.retries.fetch_add(1, Ordering::Relaxed).is_multiple_of(50) {
            note!("asked again in {:.0} s: {why}", pause.as_secs_f64());
        }
    }
}
