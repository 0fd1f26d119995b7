//! What reading did to the rows: kept, dropped and why, cut, and how long they are.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize, Serializer};

use crate::{EncodedPair, Origin};

/// Rows named for each reason when a report is shown to a person.
const ROWS_NAMED: usize = 5;

/// Why a well-formed row is not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DropReason {
    /// There is nothing to answer.
    EmptyPrompt,
    /// The chosen answer is empty or white space.
    EmptyChosen,
    /// The rejected answer is empty or white space.
    EmptyRejected,
    /// Both answers are the same, token for token: their terms would only fight.
    Identical,
    /// The two conversations differ before the answers.
    PromptsDiffer,
    /// User and assistant do not take turns, or the prompt ends with an answer.
    RolesDoNotAlternate,
    /// The prompt leaves no room for an answer.
    PromptFillsContext,
    /// Prompt and longer answer exceed the maximum length.
    TooLong,
    /// An answer has fewer tokens than were asked for.
    ShortAnswer,
}

impl DropReason {
    /// The name in reports, as serialised.
    pub fn name(self) -> &'static str {
        match self {
            Self::EmptyPrompt => "empty_prompt",
            Self::EmptyChosen => "empty_chosen",
            Self::EmptyRejected => "empty_rejected",
            Self::Identical => "identical",
            Self::PromptsDiffer => "prompts_differ",
            Self::RolesDoNotAlternate => "roles_do_not_alternate",
            Self::PromptFillsContext => "prompt_fills_context",
            Self::TooLong => "too_long",
            Self::ShortAnswer => "short_answer",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Token counts of many texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TokenStatistics {
    /// Fewest.
    pub min: usize,
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// Mean.
    pub mean: f64,
    /// Most.
    pub max: usize,
    /// Sum.
    pub total: usize,
}

impl TokenStatistics {
    /// Statistics of `counts`; all zero if there are none.
    pub fn of(counts: impl IntoIterator<Item = usize>) -> Self {
        let mut counts: Vec<usize> = counts.into_iter().collect();
        counts.sort_unstable();
        let (Some(&min), Some(&max)) = (counts.first(), counts.last()) else {
            return Self::default();
        };
        let middle = counts.len() / 2;
        let median = match counts.len().is_multiple_of(2) {
            true => (counts[middle - 1] + counts[middle]) as f64 / 2.0,
            false => counts[middle] as f64,
        };
        let total = counts.iter().sum();
        Self { min, median, mean: total as f64 / counts.len() as f64, max, total }
    }
}

impl fmt::Display for TokenStatistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, median, mean, max, total } = self;
        write!(f, "min {min}, median {median}, mean {mean:.1}, max {max}, total {total}")
    }
}

/// What became of the rows of a data set. Serialises as `asft data inspect --json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DataReport {
    /// The layout, or the layouts of several files joined by commas.
    pub schema: String,
    /// Rows read.
    pub rows: usize,
    /// Pairs that are left.
    pub kept: usize,
    /// Rows read whose two scores are equal; they are kept.
    pub ties: usize,
    /// Rows left out, by the first reason that applied. As JSON, only their number.
    #[serde(serialize_with = "counts")]
    pub dropped: BTreeMap<DropReason, Vec<Origin>>,
    /// Kept pairs of which something was cut.
    pub truncated: usize,
    /// Prompt tokens of the kept pairs, after truncation.
    pub prompt_tokens: TokenStatistics,
    /// Scored tokens of their answers, chosen and rejected counted as one answer each.
    pub response_tokens: TokenStatistics,
}

fn counts<S: Serializer>(
    dropped: &BTreeMap<DropReason, Vec<Origin>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(dropped.iter().map(|(reason, rows)| (reason, rows.len())))
}

impl DataReport {
    /// Takes number and lengths of the kept pairs from `pairs`.
    pub(super) fn measure(&mut self, pairs: &[EncodedPair]) {
        self.kept = pairs.len();
        self.prompt_tokens = TokenStatistics::of(pairs.iter().map(|pair| pair.prompt.len()));
        let answers = pairs.iter().flat_map(|pair| [pair.chosen.len(), pair.rejected.len()]);
        self.response_tokens = TokenStatistics::of(answers.filter(|&tokens| tokens > 0));
    }

    /// Rows left out for whatever reason.
    pub fn dropped_rows(&self) -> usize {
        self.dropped.values().map(Vec::len).sum()
    }
}

impl fmt::Display for DataReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "layout {}", self.schema)?;
        let dropped = self.dropped_rows();
        writeln!(f, "rows {}, kept {}, dropped {dropped}, ties {}", self.rows, self.kept, self.ties)?;
        for (reason, rows) in &self.dropped {
            let named: Vec<_> = rows.iter().take(ROWS_NAMED).map(Origin::to_string).collect();
            write!(f, "  {reason} {}: {}", rows.len(), named.join(", "))?;
            match rows.len() - named.len() {
                0 => writeln!(f)?,
                more => writeln!(f, ", and {more} more")?,
            }
        }
        writeln!(f, "truncated {}", self.truncated)?;
        writeln!(f, "prompt tokens: {}", self.prompt_tokens)?;
        write!(f, "response tokens: {}", self.response_tokens)
    }
}
