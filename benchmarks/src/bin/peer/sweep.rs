//! Time and memory of a step against its size: longer pairs, and more of them.

use anyhow::{Context, Result};
use asft_data::Tokenizer;
use serde_json::{Value, json};

use crate::{
    arguments::{Arguments, Sweep},
    compare::write,
    pairs::Words,
    plot::{self, Line, Point},
    program::{Program, Work},
};

/// Tokens of the only pair of a step.
const TOKENS: [usize; 4] = [512, 1024, 2048, 4096];

/// Pairs of a step, each of [`PAIR_TOKENS`].
const PAIRS: [usize; 4] = [1, 2, 4, 8];

const PAIR_TOKENS: usize = 512;

/// Measures, and writes `tokens.svg` and `pairs.svg`; gives the points.
pub fn run(arguments: &Arguments, tokenizer: Tokenizer) -> Result<Value> {
    let words = Words::read(&arguments.data, tokenizer)?;
    let programs = match arguments.sweep {
        Sweep::Both => vec![Program::Trl, Program::Asft],
        _ => vec![Program::Asft],
    };
    let (mut by_tokens, mut by_pairs) = (vec![], vec![]);
    for program in programs {
        let measure = |sizes: [(usize, usize); 4]| -> Result<Vec<Point>> {
            sizes.into_iter().map(|(pairs, tokens)| step(arguments, &words, program, pairs, tokens)).collect()
        };
        by_tokens.push(Line { program, points: measure(TOKENS.map(|tokens| (1, tokens)))? });
        by_pairs.push(Line { program, points: measure(PAIRS.map(|pairs| (pairs, PAIR_TOKENS)))? });
    }
    let tokens =
        plot::svg("One pair a step", "tokens of the pair, its prompt counted once", &by_tokens, |point| {
            point.tokens
        });
    let pairs = plot::svg(&format!("Pairs of {PAIR_TOKENS} tokens"), "pairs per step", &by_pairs, |point| {
        point.pairs
    });
    write(arguments, "tokens.svg", &tokens)?;
    write(arguments, "pairs.svg", &pairs)?;
    let lines = |lines: &[Line]| -> Vec<Value> {
        let line = |line: &Line| {
            let points = line.points.iter().map(|point| {
                json!({"pairs": point.pairs, "tokens": point.tokens, "seconds": point.seconds,
                       "peak_memory_bytes": point.bytes})
            });
            json!({"program": line.program.name(), "points": points.collect::<Vec<_>>()})
        };
        lines.iter().map(line).collect()
    };
    Ok(json!({"tokens": lines(&by_tokens), "pairs": lines(&by_pairs)}))
}

/// One step of `pairs` pairs of about `tokens` tokens; the second of two, since the first warms up.
fn step(
    arguments: &Arguments,
    words: &Words,
    program: Program,
    pairs: usize,
    tokens: usize,
) -> Result<Point> {
    let file = arguments.output.join("made.jsonl");
    words.write(&file, 2 * pairs, tokens)?;
    // The template adds some tokens of its own; nothing may be dropped.
    let max_length = tokens.max(arguments.max_length);
    let work = Work { file: &file, pairs: 2 * pairs, pairs_per_step: pairs, max_length };
    let run = program.run(arguments, &work)?;
    let seconds = run.figures.step_seconds.last().copied();
    let seconds = seconds.with_context(|| format!("{} made no step", program.name()))?;
    let bytes = run.figures.peak_memory_bytes;
    eprintln!("{}, {pairs} × {tokens} tokens a step: {seconds:.1} s, {:.2} GB", program.name(), bytes / 1e9);
    // The same place on the axis for both programs, whatever they count as a token.
    Ok(Point { pairs: pairs as f64, tokens: (pairs * tokens) as f64, seconds, bytes })
}
