//! Fitting pairs into the context: prompt and answer together, for each answer on its own.

use serde::{Deserialize, Serialize};

use crate::{EncodedPair, dataset::DropReason};

/// What becomes of a pair that is longer than `max_length` (`data.truncation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truncation {
    /// The pair is left out and counted.
    #[default]
    Drop,
    /// The prompt stays whole and each answer is cut at its end.
    KeepStart,
    /// The prompt is cut at its start, and an answer at its end only where one prompt token and the answer
    /// are too long already.
    KeepEnd,
}

/// Makes prompt + answer at most `max_length` tokens for each answer, and says whether anything was cut.
///
/// A cut answer gets no artificial end-of-turn token. The prompt keeps at least one token, because the
/// first answer token is predicted from the last of it.
///
/// # Errors
/// With the reason if the pair cannot be used: it is too long under [`Truncation::Drop`], no room is left
/// for an answer, or both answers are the same tokens (afterwards).
pub fn truncate(
    mut pair: EncodedPair,
    max_length: usize,
    truncation: Truncation,
) -> Result<(EncodedPair, bool), DropReason> {
    // Before lengths are looked at, so that this count does not depend on `max_length`.
    if pair.chosen == pair.rejected {
        return Err(DropReason::Identical);
    }
    let longest = pair.chosen.len().max(pair.rejected.len());
    let too_long = pair.prompt.len() + longest > max_length;
    if too_long {
        match truncation {
            Truncation::Drop => return Err(DropReason::TooLong),
            Truncation::KeepStart => {}
            Truncation::KeepEnd => {
                let prompt_tokens = max_length.saturating_sub(longest).clamp(1, pair.prompt.len().max(1));
                let cut = pair.prompt.len().saturating_sub(prompt_tokens);
                pair.prompt.drain(..cut);
            }
        }
        let room = max_length.saturating_sub(pair.prompt.len());
        if room == 0 {
            return Err(DropReason::PromptFillsContext);
        }
        pair.chosen.truncate(room);
        pair.rejected.truncate(room);
    }
    if pair.chosen == pair.rejected {
        return Err(DropReason::Identical);
    }
    Ok((pair, too_long))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::Origin;

    fn pair(prompt: usize, chosen: usize, rejected: usize) -> EncodedPair {
        let tokens = |first: u32, count: usize| (first..first + count as u32).collect();
        EncodedPair {
            origin: Origin { file: Path::new("rows.jsonl").into(), row: 1 },
            prompt: tokens(0, prompt),
            chosen: tokens(1000, chosen),
            rejected: tokens(2000, rejected),
        }
    }

    #[test]
    fn each_way_of_truncation() {
        use DropReason::*;
        use Truncation::*;
        // (prompt, chosen, rejected) to what is left of each, first prompt token included.
        let cases = [
            (Drop, 10, (4, 6, 2), Ok((0, 4, 6, 2, false))),
            (Drop, 9, (4, 6, 2), Err(TooLong)),
            (KeepStart, 9, (4, 6, 2), Ok((0, 4, 5, 2, true))),
            (KeepStart, 5, (4, 6, 2), Ok((0, 4, 1, 1, true))),
            (KeepStart, 4, (4, 6, 2), Err(PromptFillsContext)),
            (KeepStart, 3, (4, 6, 2), Err(PromptFillsContext)),
            (KeepEnd, 9, (4, 6, 2), Ok((1, 3, 6, 2, true))),
            (KeepEnd, 7, (4, 6, 2), Ok((3, 1, 6, 2, true))),
            (KeepEnd, 5, (4, 6, 2), Ok((3, 1, 4, 2, true))),
            (KeepEnd, 1, (4, 6, 2), Err(PromptFillsContext)),
            (KeepEnd, 0, (4, 6, 2), Err(PromptFillsContext)),
            (KeepStart, 6, (4, 6, 0), Ok((0, 4, 2, 0, true))),
            (KeepEnd, 6, (4, 3, 0), Ok((1, 3, 3, 0, true))),
        ];
        for (truncation, max_length, (prompt, chosen, rejected), expected) in cases {
            let found = truncate(pair(prompt, chosen, rejected), max_length, truncation);
            let found = found.map(|(pair, cut)| {
                (pair.prompt[0], pair.prompt.len(), pair.chosen.len(), pair.rejected.len(), cut)
            });
            assert_eq!(found, expected, "{truncation:?} to {max_length}");
        }
    }

    #[test]
    fn answers_that_differ_only_past_the_cut_are_identical() {
        let mut twins = pair(2, 5, 5);
        twins.rejected = twins.chosen.clone();
        twins.rejected[4] = 7;
        assert!(truncate(twins.clone(), 7, Truncation::Drop).is_ok());
        for truncation in [Truncation::KeepStart, Truncation::KeepEnd] {
            let max_length = if truncation == Truncation::KeepStart { 6 } else { 5 };
            let found = truncate(twins.clone(), max_length, truncation);
            assert_eq!(found, Err(DropReason::Identical), "{truncation:?}");
        }
        twins.rejected = twins.chosen.clone();
        for max_length in [0, 100] {
            let found = truncate(twins.clone(), max_length, Truncation::Drop);
            assert_eq!(found, Err(DropReason::Identical), "to {max_length}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_fits_and_is_a_part_of_what_came(
            prompt in 1usize..40,
            chosen in 1usize..40,
            rejected in 0usize..40,
            max_length in 0usize..90,
            keep_end in any::<bool>(),
        ) {
            let whole = pair(prompt, chosen, rejected);
            let fits = prompt + chosen.max(rejected) <= max_length;
            let truncation = if keep_end { Truncation::KeepEnd } else { Truncation::KeepStart };
            prop_assert_eq!(truncate(whole.clone(), max_length, Truncation::Drop).is_ok(), fits);
            match truncate(whole.clone(), max_length, truncation) {
                Ok((cut, truncated)) => {
                    prop_assert_eq!(truncated, !fits);
                    prop_assert_eq!(cut == whole, fits);
                    prop_assert!(!cut.prompt.is_empty() && !cut.chosen.is_empty());
                    prop_assert_eq!(cut.rejected.is_empty(), whole.rejected.is_empty());
                    let longest = cut.chosen.len().max(cut.rejected.len());
                    prop_assert!(cut.prompt.len() + longest <= max_length);
                    // No token is given up that there was room for.
                    prop_assert!(fits || cut.prompt.len() + longest == max_length);
                    prop_assert!(whole.chosen.starts_with(&cut.chosen));
                    prop_assert!(whole.rejected.starts_with(&cut.rejected));
                    prop_assert!(whole.prompt.ends_with(&cut.prompt));
                    prop_assert!(keep_end || cut.prompt == whole.prompt);
                }
                Err(reason) => {
                    prop_assert_eq!(reason, DropReason::PromptFillsContext);
                    let least_prompt = if keep_end { 1 } else { prompt };
                    prop_assert!(max_length <= least_prompt);
                }
            }
        }
    }
}
