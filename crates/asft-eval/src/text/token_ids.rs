//! Tokens as numbers, and n-grams of them.

use std::collections::HashMap;

/// Numbers tokens in the order in which they first come.
#[derive(Default)]
pub(super) struct TokenIds<'a>(HashMap<&'a str, u32>);

impl<'a> TokenIds<'a> {
    /// The number of a token.
    pub(super) fn id(&mut self, token: &'a str) -> u32 {
        let next = u32::try_from(self.0.len()).expect("a text has fewer tokens than 2^32");
        *self.0.entry(token).or_insert(next)
    }

    /// Distinct tokens so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The n-grams of a text, for n up to 4.
pub(super) struct Ngrams(Vec<u128>);

impl Ngrams {
    /// Packs the four tokens from each place on, counted from 1 so that 0 stands for the end of the text. Once these
    /// are sorted, so are their beginnings.
    pub(super) fn of(tokens: &[u32]) -> Self {
        let token = |at| tokens.get(at).map_or(0, |&token| u128::from(token) + 1);
        let four = |at| (at..at + 4).fold(0, |packed, at| packed << 32 | token(at));
        let mut packed: Vec<u128> = (0..tokens.len()).map(four).collect();
        packed.sort_unstable();
        Self(packed)
    }

    /// Those of one n, sorted, with repetitions.
    pub(super) fn order(&self, n: usize) -> Vec<u128> {
        let beginnings = self.0.iter().map(|packed| packed >> (32 * (4 - n)));
        beginnings.filter(|&ngram| ngram as u32 != 0).collect()
    }
}

/// How many n-grams two sorted lists share: the sum over n-grams of the smaller count.
pub(super) fn shared(a: &[u128], b: &[u128]) -> usize {
    let (mut i, mut j, mut shared) = (0, 0, 0);
    while let (Some(left), Some(right)) = (a.get(i), b.get(j)) {
        shared += usize::from(left == right);
        (i, j) = (i + usize::from(left <= right), j + usize::from(right <= left));
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_ngrams_are_clipped() {
        let [a, b] = [[1, 2, 1, 2, 1, 0], [2, 1, 2, 1, 0, 9]].map(|tokens| Ngrams::of(&tokens));
        // 1-grams: 1 and 2 twice, 0 once. 2-grams: 2 1 twice, 1 2 and 1 0 once. 3-grams: 2 1 2, 1 2 1 and 2 1 0.
        // 4-grams: 2 1 2 1 and 1 2 1 0.
        assert_eq!([1, 2, 3, 4].map(|n| shared(&a.order(n), &b.order(n))), [5, 4, 3, 2]);
        assert_eq!([1, 2, 3, 4].map(|n| Ngrams::of(&[0, 0]).order(n).len()), [2, 1, 0, 0]);
    }
}
