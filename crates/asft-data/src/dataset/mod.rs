//! A data set: files in, encoded pairs and an account of every row out.

mod report;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use self::report::{DataReport, DropReason, TokenStatistics};
use crate::{
    DataError, EncodedPair, Origin, PreferenceRow, Tokenizer,
    read::Source,
    sampler::choose,
    schema::{Converted, Format, SchemaRows},
    template::{RenderOptions, ResolvedTemplate, parse_date, today},
    truncation::{Truncation, truncate},
};

/// Rows that are read before they are encoded on all threads.
const BATCH_ROWS: usize = 1024;

/// What to read and how.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Files (see [`Source::expand`]) or embedded data, read in this order.
    pub sources: Vec<Source>,
    /// The layout of the rows.
    pub format: Format,
    /// Most tokens of prompt and answer together, for each answer on its own.
    pub max_length: usize,
    /// What becomes of longer ones.
    pub truncation: Truncation,
    /// Fewest scored tokens of each answer, as it is after truncation; pairs with a shorter one are dropped.
    pub min_response_tokens: usize,
    /// How messages become text.
    pub template: ResolvedTemplate,
}

/// Encoded pairs in file order, with the account of how they came to be.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The pairs, at least one.
    pub pairs: Vec<EncodedPair>,
    /// What became of the rows.
    pub report: DataReport,
}

/// How much of a data set to keep from training (`data.eval_fraction`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldOut {
    /// A part between 0 and 1, rounded to whole pairs but at least one.
    Fraction(f64),
    /// So many pairs.
    Count(usize),
}

impl Dataset {
    /// Reads, filters, encodes and truncates all rows of `options.sources`.
    ///
    /// Degenerate rows are dropped and counted; anything malformed is an error.
    ///
    /// # Errors
    /// If a file cannot be read, a row does not fit its layout or cannot be encoded, or no row is left.
    pub fn load(options: &LoadOptions, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let template = dated(&options.template);
        Self::load_with(options, |row| Ok(tokenizer.encode_pair(row, &template)?))
    }

    fn load_with(
        options: &LoadOptions,
        encode: impl Fn(&PreferenceRow) -> Result<EncodedPair, DataError> + Sync,
    ) -> Result<Self, DataError> {
        let fit = |row: Result<(Origin, Converted), DataError>| {
            let (origin, converted) = row?;
            let (kept, scores) = match converted {
                Converted::Dropped { reason, scores } => (Err(reason), scores),
                Converted::Row(row) => {
                    let pair = usable(&row, encode(&row)?);
                    let fitted = pair.and_then(|pair| truncate(pair, options.max_length, options.truncation));
                    (fitted.and_then(|fitted| long_enough(fitted, options)), row.scores)
                }
            };
            Ok((origin, kept, scores))
        };
        let mut pairs = vec![];
        let mut report = DataReport::default();
        let mut schemas = vec![];
        for source in &options.sources {
            let mut rows = SchemaRows::open(source, options.format)?;
            if !schemas.contains(&rows.schema().name()) {
                schemas.push(rows.schema().name());
            }
            loop {
                let batch: Vec<_> = rows.by_ref().take(BATCH_ROWS).collect();
                if batch.is_empty() {
                    break;
                }
                let fitted: Vec<Result<_, DataError>> = batch.into_par_iter().map(&fit).collect();
                // In file order: the first thing wrong with a file is what is reported.
                for fitted in fitted {
                    let (origin, kept, scores) = fitted?;
                    report.rows += 1;
                    report.ties += usize::from(scores.is_some_and(|(chosen, rejected)| chosen == rejected));
                    match kept {
                        Ok((pair, truncated)) => {
                            report.truncated += usize::from(truncated);
                            pairs.push(pair);
                        }
                        Err(reason) => report.dropped.entry(reason).or_default().push(origin),
                    }
                }
            }
        }
        report.schema = schemas.join(", ");
        report.measure(&pairs);
        if pairs.is_empty() {
            return Err(nothing_kept(options, &report));
        }
        Ok(Self { pairs, report })
    }

    /// Divides the pairs into (train, held out) by a choice that depends on their number and `seed` alone;
    /// both parts keep file order.
    ///
    /// Both carry the report of the files as a whole.
    ///
    /// # Errors
    /// If a part would be empty, or the fraction does not lie between 0 and 1.
    pub fn split_held_out(self, held_out: HeldOut, seed: u64) -> Result<(Self, Self), DataError> {
        let pairs = self.pairs.len();
        let error = |asked: String| DataError::HeldOut { asked, pairs };
        let count = match held_out {
            HeldOut::Count(count) if (1..pairs).contains(&count) => count,
            HeldOut::Fraction(part) if part > 0.0 && part < 1.0 && pairs > 1 => {
                ((pairs as f64 * part).round() as usize).clamp(1, pairs - 1)
            }
            HeldOut::Count(count) => return Err(error(count.to_string())),
            HeldOut::Fraction(part) => return Err(error(format!("the fraction {part}"))),
        };
        let chosen = choose(pairs, count, seed);
        let (mut train, mut held) = (vec![], vec![]);
        for (pair, chosen) in self.pairs.into_iter().zip(chosen) {
            if chosen { held.push(pair) } else { train.push(pair) }
        }
        let report = self.report;
        Ok((Self { pairs: train, report: report.clone() }, Self { pairs: held, report }))
    }

    /// The first row without a rejected answer, which only `sft` can be trained on.
    pub fn first_without_rejected(&self) -> Option<&Origin> {
        self.pairs.iter().find(|pair| pair.rejected.is_empty()).map(|pair| &pair.origin)
    }
}

/// The template with its day fixed, so that all rows print one day: workers may not find the local time.
fn dated(template: &ResolvedTemplate) -> ResolvedTemplate {
    match template {
        ResolvedTemplate::Chat { template, options } if options.date.is_none() => {
            let options = RenderOptions { date: parse_date(&today()).ok(), ..options.clone() };
            ResolvedTemplate::Chat { template: template.clone(), options }
        }
        other => other.clone(),
    }
}

/// Text that is there can still encode to no token at all.
fn usable(row: &PreferenceRow, pair: EncodedPair) -> Result<EncodedPair, DropReason> {
    if pair.prompt.is_empty() {
        return Err(DropReason::EmptyPrompt);
    }
    if pair.chosen.is_empty() {
        return Err(DropReason::EmptyChosen);
    }
    if row.rejected.is_some() && pair.rejected.is_empty() {
        return Err(DropReason::EmptyRejected);
    }
    Ok(pair)
}

fn long_enough(
    (pair, truncated): (EncodedPair, bool),
    options: &LoadOptions,
) -> Result<(EncodedPair, bool), DropReason> {
    let answers = [&pair.chosen, &pair.rejected].into_iter().filter(|answer| !answer.is_empty());
    match answers.map(Vec::len).min() {
        Some(shortest) if shortest < options.min_response_tokens => Err(DropReason::ShortAnswer),
        _ => Ok((pair, truncated)),
    }
}

fn nothing_kept(options: &LoadOptions, report: &DataReport) -> DataError {
    let files = options.sources.iter().map(|source| source.path().display().to_string());
    let mut reasons: Vec<_> = report.dropped.iter().map(|(&reason, rows)| (reason, rows.len())).collect();
    reasons.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let hint = match reasons.first() {
        None => "name at least one file with rows in it",
        Some((DropReason::ShortAnswer, _)) => "lower data.min_response_tokens",
        Some((DropReason::TooLong, _)) => {
            "raise data.max_length, or set data.truncation to \"keep-start\" or \"keep-end\""
        }
        // Only where something is kept do prompts leave no room.
        Some((DropReason::PromptFillsContext, _)) => "raise data.max_length",
        Some(_) => "look at the rows; if their layout was taken for another, name it in data.format",
    };
    let dropped = reasons.iter().map(|(reason, count)| format!("{reason} {count}"));
    DataError::NothingKept {
        files: files.collect::<Vec<_>>().join(", "),
        rows: report.rows,
        dropped: dropped.collect::<Vec<_>>().join(", "),
        hint,
    }
}

#[cfg(test)]
mod tests;
