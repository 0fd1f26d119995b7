//! `asft generate`.

mod model;

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use asft_data::Message;
use asft_eval::{EvalError, derived_seed, jsonl};
use asft_model::generate::{Event, Finish, Request, Sampling};
use clap::Args;
use serde::{Deserialize, Serialize};

pub use self::model::{LocalModel, ModelArguments, ModelOptions, Opened};
use crate::{
    failure::Failure,
    output::{self, note},
    train::interruptible,
};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A question, as one user's turn; the answer goes to standard output as it grows.
    #[arg(long, value_name = "TEXT", required_unless_present = "input", conflicts_with_all = ["input", "output"])]
    prompt: Option<String>,
    /// Rows with a prompt each, a text or a list of {role, content} (JSON Lines).
    #[arg(long, value_name = "F.jsonl", requires = "output")]
    input: Option<PathBuf>,
    /// Where the answers go, a row for each row.
    #[arg(long, value_name = "F.jsonl")]
    output: Option<PathBuf>,
    /// Goes on with an output that was broken off.
    #[arg(long, requires = "input")]
    resume: bool,
    /// A system message before each prompt that has none.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// 0 takes the likeliest token each time.
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Only the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Only so many of the likeliest tokens; 0: all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Tokens after which an answer is cut.
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// Seed of the draws; each row draws on its own.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let in_range = |option: &str, value: f64, most: f64| match (0.0..=most).contains(&value) {
        true => Ok(()),
        false => Err(Failure::input(format!("{option} must be from 0 to {most}, got {value}"))),
    };
    in_range("--temperature", arguments.temperature, 100.0)?;
    in_range("--top-p", arguments.top_p, 1.0)?;
    match (&arguments.prompt, &arguments.input, &arguments.output) {
        (Some(prompt), ..) => answer(arguments, prompt),
        (None, Some(input), Some(output)) => answer_rows(arguments, input, output),
        _ => unreachable!("the arguments ask for a prompt or for input and output"),
    }
}

impl Arguments {
    fn sampling(&self, seed: u64) -> Sampling {
        Sampling { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, seed }
    }

    fn conversation(&self, prompt: &Prompt) -> Vec<Message> {
        let mut conversation = match prompt {
            Prompt::Text(text) => vec![Message::new("user", text)],
            Prompt::Turns(turns) => turns.clone(),
        };
        if let Some(system) = &self.system
            && conversation.first().is_none_or(|first| first.role != "system")
        {
            conversation.insert(0, Message::new("system", system));
        }
        conversation
    }
}

fn answer(arguments: &Arguments, prompt: &str) -> Result<(), Failure> {
    let opened = arguments.model.open("--prompt".into())?;
    let prompt = opened.encode(0, &arguments.conversation(&Prompt::Text(prompt.to_owned())))?;
    let sampling = arguments.sampling(arguments.seed);
    let request = Request { prompt, max_new_tokens: arguments.max_new_tokens, sampling };
    opened.with_weights(|model| {
        let mut text = model.opened.tokenizer.decode_stream();
        let mut failed = Ok(());
        let (started, mut tokens) = (Instant::now(), 0);
        let flow = model.generate(&[request], &mut |event| {
            let shown = match event {
                Event::Token(_, id) => {
                    tokens += 1;
                    text.push(id)
                        .map_err(|error| Failure::Run(error.into()))
                        .and_then(|text| output::print(&text.unwrap_or_default()))
                }
                Event::Done(_, generated) => {
                    let cut = generated.finish == Finish::Length;
                    let end = output::print("\n");
                    let seconds = started.elapsed().as_secs_f64();
                    note!(
                        "{tokens} tokens in {seconds:.1} s{}",
                        if cut { ", cut at --max-new-tokens or the end of the model's context" } else { "" }
                    );
                    end
                }
            };
            match shown {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Err(error);
                    ControlFlow::Break(())
                }
            }
        });
        debug_assert!(flow.is_continue() || failed.is_err());
        failed
    })
}

/// A row of the input.
#[derive(Deserialize)]
struct Row {
    prompt: Prompt,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Prompt {
    Text(String),
    Turns(Vec<Message>),
}

/// A row of the output.
#[derive(Serialize, Deserialize)]
struct AnswerRow {
    /// 0-based place among the input's rows.
    index: usize,
    prompt: Prompt,
    text: String,
    token_ids: Vec<u32>,
    /// `end_of_turn` or `length`.
    finish: String,
    /// What the answer was drawn with: rows of other settings are not gone on from.
    settings: String,
}

fn answer_rows(arguments: &Arguments, input: &Path, output: &Path) -> Result<(), Failure> {
    let rows: Vec<(usize, Row)> = jsonl::read_as(input)?;
    if rows.is_empty() {
        return Err(Failure::input(format!("{}: holds no row", input.display())));
    }
    output::check_writable(output, &[input.to_owned()])?;
    let settings = format!(
        "model {} template {} temperature {} top_k {} top_p {} max_new_tokens {} seed {} system {:?}",
        arguments.model.model.display(),
        arguments.model.options.template,
        arguments.temperature,
        arguments.top_k,
        arguments.top_p,
        arguments.max_new_tokens,
        arguments.seed,
        arguments.system.as_deref().unwrap_or_default()
    );
    let mut answered = earlier(arguments, output, &rows, &settings)?;
    let opened = arguments.model.open(input.to_owned())?;
    let mut requests = vec![];
    let mut places = vec![];
    for (place, (line, row)) in rows.iter().enumerate() {
        if answered.contains_key(&place) {
            continue;
        }
        let prompt = opened.encode(line - 1, &arguments.conversation(&row.prompt))?;
        let sampling = arguments.sampling(derived_seed(arguments.seed, &[&place.to_string()]));
        requests.push(Request { prompt, max_new_tokens: arguments.max_new_tokens, sampling });
        places.push(place);
    }
    let interrupted = interruptible("stopping; what is answered is kept")?;
    // Rows are appended as they end, whatever their order, and sorted when all are there.
    let failed = |error: std::io::Error| Failure::Run(anyhow::anyhow!("{}: {error}", output.display()));
    jsonl::write_file(output, jsonl::lines(&answered.values().collect::<Vec<_>>(), false).as_bytes())?;
    let mut file = OpenOptions::new().append(true).open(output).map_err(failed)?;
    if !requests.is_empty() {
        opened.with_weights(|model| {
            let mut result = Ok(());
            let (started, mut tokens, mut ended) = (Instant::now(), 0, 0);
            let total = requests.len();
            let flow = model.generate(&requests, &mut |event| {
                let Event::Done(request, generated) = event else {
                    tokens += 1;
                    return stop_if(&interrupted);
                };
                ended += 1;
                let rate = f64::from(tokens) / started.elapsed().as_secs_f64();
                note!("answered {ended}/{total}, {rate:.1} tokens/s");
                let place = places[request];
                let row = model.decode(&generated.tokens).map(|text| AnswerRow {
                    index: place,
                    prompt: rows[place].1.prompt.clone(),
                    text,
                    token_ids: generated.tokens,
                    finish: match generated.finish {
                        Finish::EndOfTurn => "end_of_turn".to_owned(),
                        Finish::Length => "length".to_owned(),
                    },
                    settings: settings.clone(),
                });
                let written = row.and_then(|row| {
                    file.write_all(jsonl::lines(&[&row], false).as_bytes()).map_err(failed)?;
                    answered.insert(place, row);
                    Ok(())
                });
                match written {
                    Ok(()) => stop_if(&interrupted),
                    Err(error) => {
                        result = Err(error);
                        ControlFlow::Break(())
                    }
                }
            });
            if flow.is_break() && result.is_ok() {
                let hint = "hint: --resume goes on from there";
                return Err(Failure::Interrupted(format!(
                    "interrupted after {ended} of {total} answers\n{hint}"
                )));
            }
            result
        })?;
    }
    let all: Vec<&AnswerRow> = answered.values().collect();
    Ok(jsonl::write_file(output, jsonl::lines(&all, false).as_bytes())?)
}

fn stop_if(interrupted: &AtomicBool) -> ControlFlow<()> {
    match interrupted.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// Rows that an earlier run left in the output, by place. A last line that was cut is dropped.
fn earlier(
    arguments: &Arguments,
    output: &Path,
    rows: &[(usize, Row)],
    settings: &str,
) -> Result<BTreeMap<usize, AnswerRow>, Failure> {
    let text = match std::fs::read_to_string(output) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(EvalError::io(output)(error).into()),
        Ok(text) => text,
    };
    if !arguments.resume {
        return Err(Failure::input(format!(
            "{}: exists\nhint: --resume goes on with it, or name another file",
            output.display()
        )));
    }
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut answered = BTreeMap::new();
    for (index, line) in whole.lines().enumerate() {
        let wrong = |what: String| EvalError::row(output, index + 1, what);
        let hint = "hint: name another output";
        let row: AnswerRow = serde_json::from_str(line)
            .map_err(|error| wrong(format!("is no answer of this command: {error}\n{hint}")))?;
        if row.settings != settings {
            return Err(wrong(format!("was made with {}, now it is {settings}\n{hint}", row.settings)).into());
        }
        if rows.get(row.index).is_none_or(|(_, input)| input.prompt != row.prompt) {
            return Err(wrong(format!(
                "answers a prompt that is not row {} of the input\n{hint}",
                row.index
            ))
            .into());
        }
        answered.insert(row.index, row);
    }
    Ok(answered)
}
