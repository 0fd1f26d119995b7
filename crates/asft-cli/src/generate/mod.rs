//! `asft generate`.

mod input;
mod model;
mod rows;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use asft_data::Message;
use asft_eval::derived_seed;
use asft_model::generate::{Event, Finish, Request, Sampling};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::{
    input::Prompt,
    model::{LocalModel, ModelArguments, ModelOptions, Opened},
    rows::Rows,
};
use crate::{
    failure::Failure,
    number::whole,
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
    /// Rows with a prompt each, a text or a list of {role, content} (JSON Lines); other columns go into the output.
    #[arg(long, value_name = "F.jsonl", requires = "output")]
    input: Option<PathBuf>,
    /// Answers only the first rows; with more, --resume goes on.
    #[arg(long, value_name = "N", requires = "input", conflicts_with = "prompt", value_parser = whole(1usize))]
    limit: Option<usize>,
    /// Where the answers go, a row for each row.
    #[arg(long, value_name = "F.jsonl")]
    output: Option<PathBuf>,
    /// Goes on with an output that was broken off.
    #[arg(long, requires = "input", conflicts_with = "prompt")]
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
    #[arg(long, default_value_t = 0, value_parser = whole(0usize))]
    top_k: usize,
    /// Tokens after which an answer is cut.
    #[arg(long, default_value_t = 256, value_parser = whole(1usize))]
    max_new_tokens: usize,
    /// Seed of the draws; each row draws on its own.
    #[arg(long, default_value_t = 0, value_parser = whole(0u64))]
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
    if prompt.trim().is_empty() {
        return Err(Failure::input("--prompt: says nothing"));
    }
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

/// What an output's row has beside prompt and columns of its input.
const OWN_COLUMNS: [&str; 5] = ["index", "text", "token_ids", "finish", "settings"];

/// A row of the output, but for what [`Rows`] adds.
#[derive(Serialize, Deserialize)]
struct AnswerRow {
    prompt: Prompt,
    #[serde(flatten)]
    columns: Map<String, Value>,
    text: String,
    token_ids: Vec<u32>,
    /// `end_of_turn` or `length`.
    finish: String,
}

fn answer_rows(arguments: &Arguments, input: &Path, output: &Path) -> Result<(), Failure> {
    let rows = input::read(input, &OWN_COLUMNS)?;
    let limit = arguments.limit.unwrap_or(usize::MAX).min(rows.len());
    if limit < rows.len() {
        note!("the first {limit} of {} rows", rows.len());
    }
    output::check_writable(output, &[input.to_owned()])?;
    if output.exists() && !arguments.resume {
        return Err(Failure::input(format!(
            "{}: exists\nhint: --resume goes on with it, or name another file",
            output.display()
        )));
    }
    let opened = arguments.model.open(input.to_owned())?;
    let settings = format!(
        "{} temperature {} top_k {} top_p {} max_new_tokens {} seed {} system {:?}",
        opened.settings()?,
        arguments.temperature,
        arguments.top_k,
        arguments.top_p,
        arguments.max_new_tokens,
        arguments.seed,
        arguments.system.as_deref().unwrap_or_default()
    );
    let mut requests = vec![];
    for (place, row) in rows[..limit].iter().enumerate() {
        let prompt = opened.encode(row.line - 1, &arguments.conversation(&row.prompt))?;
        let sampling = arguments.sampling(derived_seed(arguments.seed, &[&place.to_string()]));
        requests.push(Request { prompt, max_new_tokens: arguments.max_new_tokens, sampling });
    }
    let fit = |place: usize, row: &AnswerRow| {
        rows.get(place).is_some_and(|input| input.prompt == row.prompt && input.columns == row.columns)
    };
    let mut answered = Rows::open(output, &settings, fit)?;
    let places: Vec<usize> = (0..limit).filter(|place| !answered.has(*place)).collect();
    let requests: Vec<Request> = places.iter().map(|place| requests[*place].clone()).collect();
    let interrupted = interruptible("stopping; what is answered is kept")?;
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
                let written = model.decode(&generated.tokens).and_then(|text| {
                    let finish = match generated.finish {
                        Finish::EndOfTurn => "end_of_turn".to_owned(),
                        Finish::Length => "length".to_owned(),
                    };
                    let (prompt, columns) = (rows[place].prompt.clone(), rows[place].columns.clone());
                    let token_ids = generated.tokens;
                    answered.add(place, AnswerRow { prompt, columns, text, token_ids, finish })
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
    answered.finish().map(drop)
}

fn stop_if(interrupted: &AtomicBool) -> ControlFlow<()> {
    match interrupted.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}
