//! Micro-batches as one token stream: prompts once, no padding.

use std::{cmp::Reverse, ops::Range};

use crate::EncodedPair;

/// Where one pair lies in the stream of a [`PairBatch`]: `[prompt | chosen | rejected]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Stream index of the first prompt token.
    pub start: usize,
    /// Prompt tokens, at least 1.
    pub prompt_tokens: usize,
    /// Scored tokens of the chosen answer, at least 1.
    pub chosen_tokens: usize,
    /// Scored tokens of the rejected answer, 0 in SFT data.
    pub rejected_tokens: usize,
}

impl Segment {
    /// Stream range of the prompt.
    pub fn prompt(&self) -> Range<usize> {
        self.start..self.start + self.prompt_tokens
    }

    /// Stream range of the chosen answer.
    pub fn chosen(&self) -> Range<usize> {
        let start = self.start + self.prompt_tokens;
        start..start + self.chosen_tokens
    }

    /// Stream range of the rejected answer.
    pub fn rejected(&self) -> Range<usize> {
        let start = self.start + self.prompt_tokens + self.chosen_tokens;
        start..start + self.rejected_tokens
    }

    /// All tokens of the pair.
    pub fn tokens(&self) -> usize {
        self.prompt_tokens + self.chosen_tokens + self.rejected_tokens
    }
}

impl EncodedPair {
    /// Tokens of the pair in a stream: the prompt counted once.
    pub fn tokens(&self) -> usize {
        self.prompt.len() + self.chosen.len() + self.rejected.len()
    }
}

/// The pairs of one micro-batch, concatenated.
///
/// Positions restart at 0 with each pair; those of a rejected answer go on from the end of its prompt, as
/// if the chosen answer were not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairBatch {
    /// `[tokens]` ids of the whole stream.
    pub token_ids: Vec<u32>,
    /// `[tokens]` rotary position of each token.
    pub positions: Vec<u32>,
    /// One entry a pair, in stream order.
    pub segments: Vec<Segment>,
}

impl PairBatch {
    /// Concatenates `pairs`.
    pub fn new<'a>(pairs: impl IntoIterator<Item = &'a EncodedPair>) -> Self {
        let mut batch = Self { token_ids: vec![], positions: vec![], segments: vec![] };
        for pair in pairs {
            let segment = Segment {
                start: batch.token_ids.len(),
                prompt_tokens: pair.prompt.len(),
                chosen_tokens: pair.chosen.len(),
                rejected_tokens: pair.rejected.len(),
            };
            for answer in [&pair.prompt, &pair.chosen, &pair.rejected] {
                batch.token_ids.extend_from_slice(answer);
            }
            let prompt = pair.prompt.len() as u32;
            batch.positions.extend(0..prompt + pair.chosen.len() as u32);
            batch.positions.extend(prompt..prompt + pair.rejected.len() as u32);
            batch.segments.push(segment);
        }
        batch
    }

    /// The rows whose next-token log-probs are needed, with their labels.
    ///
    /// With `prompts`, the predictable prompt tokens (all but the first) come first in each pair.
    pub fn scored(&self, prompts: bool) -> ScoredRows {
        let mut scored = ScoredRows { rows: vec![], labels: vec![], pairs: vec![] };
        for segment in &self.segments {
            let prompt = segment.prompt();
            let prompt = prompts.then(|| scored.push(self, prompt.start..prompt.end - 1, prompt.start + 1));
            let last_prompt = segment.prompt().end - 1;
            let [chosen, rejected] = [segment.chosen(), segment.rejected()].map(|answer| {
                if answer.is_empty() {
                    return scored.push(self, 0..0, 0);
                }
                let first = scored.push(self, last_prompt..last_prompt + 1, answer.start);
                let rest = scored.push(self, answer.start..answer.end - 1, answer.start + 1);
                first.start..rest.end
            });
            scored.pairs.push(ScoredPair { prompt, chosen, rejected });
        }
        scored
    }
}

/// Which hidden states go through the head, and the token each must predict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoredRows {
    /// `[scored]` stream index of the hidden state; the last prompt row occurs once for each answer.
    pub rows: Vec<u32>,
    /// `[scored]` token id to predict there.
    pub labels: Vec<u32>,
    /// One entry a pair: where its log-probs lie in `rows`.
    pub pairs: Vec<ScoredPair>,
}

/// Ranges of one pair in [`ScoredRows::rows`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoredPair {
    /// Predictable prompt tokens, where they were asked for.
    pub prompt: Option<Range<usize>>,
    /// Tokens of the chosen answer.
    pub chosen: Range<usize>,
    /// Tokens of the rejected answer.
    pub rejected: Range<usize>,
}

impl ScoredRows {
    fn push(&mut self, batch: &PairBatch, rows: Range<usize>, first_label: usize) -> Range<usize> {
        let start = self.rows.len();
        let labels = first_label..first_label + rows.len();
        self.labels.extend_from_slice(&batch.token_ids[labels]);
        self.rows.extend(rows.map(|row| row as u32));
        start..self.rows.len()
    }
}

/// Splits consecutive pairs into micro-batches of at most `max_tokens` stream tokens each.
///
/// A single pair above the bound gets a micro-batch of its own.
pub fn micro_batches(pair_tokens: &[usize], max_tokens: usize) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = vec![];
    let mut filled = 0;
    for (index, &tokens) in pair_tokens.iter().enumerate() {
        match batches.last_mut() {
            Some(batch) if filled + tokens <= max_tokens => {
                batch.end = index + 1;
                filled += tokens;
            }
            _ => {
                batches.push(index..index + 1);
                filled = tokens;
            }
        }
    }
    batches
}

/// Deals pairs of these lengths out to `parts`, so that all have about the same number of tokens: the longest first, each
/// to the part that has fewest. Indices of each part's pairs, in order; a part may be empty.
pub fn shards(pair_tokens: &[usize], parts: usize) -> Vec<Vec<usize>> {
    let mut longest_first: Vec<usize> = (0..pair_tokens.len()).collect();
    longest_first.sort_by_key(|&pair| Reverse(pair_tokens[pair]));
    let mut shards = vec![(0, vec![]); parts];
    for pair in longest_first {
        let emptiest =
            shards.iter_mut().min_by_key(|(tokens, pairs): &&mut (_, Vec<_>)| (*tokens, pairs.len()));
        let Some((tokens, pairs)) = emptiest else { break };
        *tokens += pair_tokens[pair];
        pairs.push(pair);
    }
    shards.iter_mut().for_each(|(_, pairs)| pairs.sort_unstable());
    shards.into_iter().map(|(_, pairs)| pairs).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::Origin;

    #[test]
    fn shards_are_about_equal_and_in_order() {
        assert_eq!(shards(&[5, 9, 3, 4, 2], 2), [vec![1, 2], vec![0, 3, 4]]);
        assert_eq!(shards(&[7, 7], 4), [vec![0], vec![1], vec![], vec![]]);
        assert_eq!(shards(&[], 2), [vec![0; 0], vec![]]);
        assert_eq!(shards(&[3, 1, 2], 1), [vec![0, 1, 2]]);
    }

    /// Pairs whose tokens are all different, so that a label tells where it was taken from.
    fn pairs(lengths: &[(usize, usize, usize)]) -> Vec<EncodedPair> {
        let mut next = 100;
        let mut tokens = |count: usize| {
            next += count as u32;
            (next - count as u32..next).collect::<Vec<_>>()
        };
        let pair = |&(prompt, chosen, rejected)| EncodedPair {
            origin: Origin { file: Path::new("rows.jsonl").into(), row: 1 },
            prompt: tokens(prompt),
            chosen: tokens(chosen),
            rejected: tokens(rejected),
        };
        lengths.iter().map(pair).collect()
    }

    /// For each answer on its own: which token is predicted after which, both by their ids.
    fn predictions(context: &[u32], answer: &[u32]) -> Vec<(u32, u32)> {
        let whole = [context, answer].concat();
        (context.len()..whole.len()).map(|at| (whole[at - 1], whole[at])).collect()
    }

    fn lengths() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
        prop::collection::vec((1usize..9, 1usize..9, 0usize..9), 0..6)
    }

    proptest! {
        #[test]
        fn the_stream_holds_each_pair_at_its_own_positions(lengths in lengths()) {
            let pairs = pairs(&lengths);
            let batch = PairBatch::new(&pairs);
            prop_assert_eq!(batch.segments.len(), pairs.len());
            prop_assert_eq!(batch.positions.len(), batch.token_ids.len());
            let mut start = 0;
            for (pair, segment) in pairs.iter().zip(&batch.segments) {
                prop_assert_eq!(segment.start, start);
                start += segment.tokens();
                for (range, tokens, first) in [
                    (segment.prompt(), &pair.prompt, 0),
                    (segment.chosen(), &pair.chosen, pair.prompt.len()),
                    (segment.rejected(), &pair.rejected, pair.prompt.len()),
                ] {
                    prop_assert_eq!(&batch.token_ids[range.clone()], &tokens[..]);
                    let positions = (first..first + tokens.len()).map(|at| at as u32);
                    prop_assert_eq!(&batch.positions[range], &positions.collect::<Vec<_>>()[..]);
                }
            }
            prop_assert_eq!(start, batch.token_ids.len());
        }

        #[test]
        fn scored_rows_predict_what_each_answer_alone_would(
            lengths in lengths(),
            prompts in any::<bool>(),
        ) {
            let pairs = pairs(&lengths);
            let batch = PairBatch::new(&pairs);
            let scored = batch.scored(prompts);
            let predicted = |range: &Range<usize>| {
                let row = |at: usize| (batch.token_ids[scored.rows[at] as usize], scored.labels[at]);
                range.clone().map(row).collect::<Vec<_>>()
            };
            prop_assert_eq!(scored.pairs.len(), pairs.len());
            let mut covered = 0;
            for (pair, found) in pairs.iter().zip(&scored.pairs) {
                let prompt = prompts.then(|| predictions(&pair.prompt[..1], &pair.prompt[1..]));
                prop_assert_eq!(found.prompt.as_ref().map(predicted), prompt);
                prop_assert_eq!(predicted(&found.chosen), predictions(&pair.prompt, &pair.chosen));
                prop_assert_eq!(
                    predicted(&found.rejected),
                    predictions(&pair.prompt, &pair.rejected)
                );
                for range in found.prompt.iter().chain([&found.chosen, &found.rejected]) {
                    prop_assert_eq!(range.start, covered);
                    covered = range.end;
                }
            }
            prop_assert_eq!((scored.rows.len(), scored.labels.len()), (covered, covered));
        }

        #[test]
        fn micro_batches_are_full_but_never_too_full(
            tokens in prop::collection::vec(1usize..50, 0..30),
            max_tokens in 0usize..80,
        ) {
            let batches = micro_batches(&tokens, max_tokens);
            let sum = |batch: &Range<usize>| tokens[batch.clone()].iter().sum::<usize>();
            let mut covered = 0;
            for batch in &batches {
                prop_assert_eq!(batch.start, covered);
                prop_assert!(!batch.is_empty());
                prop_assert!(sum(batch) <= max_tokens || batch.len() == 1);
                // The next pair did not fit any more.
                let with_next = sum(batch) + tokens.get(batch.end).copied().unwrap_or(max_tokens + 1);
                prop_assert!(with_next > max_tokens);
                covered = batch.end;
            }
            prop_assert_eq!(covered, tokens.len());
        }
    }
}
