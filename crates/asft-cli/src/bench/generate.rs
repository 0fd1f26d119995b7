//! `asft bench generate`.

use std::{collections::BTreeSet, ops::ControlFlow, time::Instant};

use asft_model::generate::{Event, Request, Sampling};
use asft_train::memory;
use clap::Args;
use serde_json::json;

use crate::{failure::Failure, generate::ModelArguments, output};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Tokens of each prompt, made up.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    prompt_tokens: u16,
    /// Tokens to add to each; no answer ends before.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    new_tokens: u16,
    /// Times; the fastest and the middle one are told.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let opened = arguments.model.open("made up".into())?;
    let batch = usize::from(arguments.model.options.batch);
    let vocabulary = opened.tokenizer.vocab_size() as u32;
    let special = |id: &u32| opened.tokenizer.is_special(*id);
    let ordinary: BTreeSet<u32> = (0..vocabulary).filter(|id| !special(id)).collect();
    let ordinary: Vec<u32> = ordinary.into_iter().collect();
    let id = |place: usize| ordinary[place * 7919 % ordinary.len()];
    let length = usize::from(arguments.prompt_tokens);
    let requests: Vec<Request> = (0..batch)
        .map(|row| Request {
            prompt: (0..length).map(|place| id(row * length + place)).collect(),
            max_new_tokens: usize::from(arguments.new_tokens),
            sampling: Sampling::GREEDY,
        })
        .collect();
    let result = opened.without_stops().with_weights(|model| {
        let mut rates = vec![];
        let mut first = vec![];
        for _ in 0..arguments.repeat {
            let (started, mut tokens, mut to_first) = (Instant::now(), 0, None);
            let _ = model.generate(&requests, &mut |event| {
                if let Event::Token(..) = event {
                    tokens += 1;
                    to_first.get_or_insert_with(|| started.elapsed().as_secs_f64());
                }
                ControlFlow::Continue(())
            });
            rates.push(f64::from(tokens) / started.elapsed().as_secs_f64());
            first.extend(to_first);
        }
        rates.sort_by(f64::total_cmp);
        first.sort_by(f64::total_cmp);
        Ok(json!({
            "batch": batch,
            "prompt_tokens": length,
            "new_tokens": arguments.new_tokens,
            "tokens_per_second": rates[rates.len() / 2],
            "tokens_per_second_best": rates[rates.len() - 1],
            "seconds_to_first_token": first[first.len() / 2],
            "peak_memory_bytes": memory::peak_bytes(),
        }))
    })?;
    output::print(&format!("{result:#}\n"))
}
