//! BLEU as sacreBLEU 2.6.0 computes it with its default settings.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{
    Pair,
    token_ids::{Ngrams, TokenIds, shared},
    white_space::{split, strip_end},
};

/// What sacreBLEU prints for a corpus with these settings.
const SIGNATURE: &str = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0";

/// BLEU of a corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SacreBleu {
    /// BLEU, as a percentage.
    pub score: f64,
    /// Smoothed precisions of 1- to 4-grams, as percentages; 0 if nothing matches at all.
    pub precisions: [f64; 4],
    /// N-grams that match.
    pub counts: [usize; 4],
    /// N-grams of the hypotheses.
    pub totals: [usize; 4],
    /// Brevity penalty.
    pub bp: f64,
    /// Tokens of the hypotheses.
    pub sys_len: usize,
    /// Tokens of the references.
    pub ref_len: usize,
    /// The settings, as sacreBLEU writes them.
    pub signature: String,
}

/// What BLEU is computed from; of a corpus, the sum over its pairs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    matches: [usize; 4],
    totals: [usize; 4],
    hypothesis: usize,
    reference: usize,
}

impl Counts {
    pub(super) fn of(pair: &Pair) -> Self {
        let [predict, label] = [&pair.predict, &pair.label].map(|text| tokenize_13a(text));
        let mut ids = TokenIds::default();
        let [hypothesis, reference] =
            [&predict, &label].map(|text| split(text).map(|token| ids.id(token)).collect::<Vec<_>>());
        let mut counts = Self { hypothesis: hypothesis.len(), reference: reference.len(), ..Self::default() };
        let [h, r] = [&hypothesis, &reference].map(|tokens| Ngrams::of(tokens));
        for n in 1..=4 {
            let h = h.order(n);
            (counts.matches[n - 1], counts.totals[n - 1]) = (shared(&h, &r.order(n)), h.len());
        }
        counts
    }

    /// BLEU of a corpus, every order counting.
    pub(super) fn corpus(&self) -> SacreBleu {
        let precisions = self.precisions();
        SacreBleu {
            score: self.score(&precisions),
            precisions,
            counts: self.matches,
            totals: self.totals,
            bp: self.brevity_penalty(),
            sys_len: self.hypothesis,
            ref_len: self.reference,
            signature: SIGNATURE.to_owned(),
        }
    }

    /// BLEU of a sentence by its "effective order": only orders of which it has n-grams count.
    pub(super) fn sentence(&self) -> f64 {
        let orders = self.totals.iter().take_while(|&&total| total > 0).count();
        self.score(&self.precisions()[..orders])
    }

    fn precisions(&self) -> [f64; 4] {
        let mut precisions = [0.0; 4];
        if self.matches == [0; 4] {
            return precisions;
        }
        let mut smoothing = 1.0;
        for n in (0..4).take_while(|&n| self.totals[n] > 0) {
            let total = self.totals[n] as f64;
            precisions[n] = match self.matches[n] {
                0 => {
                    smoothing *= 2.0;
                    100.0 / (smoothing * total)
                }
                matches => 100.0 * matches as f64 / total,
            };
        }
        precisions
    }

    fn brevity_penalty(&self) -> f64 {
        match (self.hypothesis as f64, self.reference as f64) {
            (hypothesis, reference) if hypothesis >= reference => 1.0,
            (0.0, _) => 0.0,
            (hypothesis, reference) => (1.0 - reference / hypothesis).exp(),
        }
    }

    fn score(&self, precisions: &[f64]) -> f64 {
        if self.matches == [0; 4] {
            return 0.0;
        }
        let log_sum: f64 = precisions.iter().map(|precision| precision.ln()).sum();
        self.brevity_penalty() * (log_sum / precisions.len() as f64).exp()
    }
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let add = |a: [usize; 4], b: [usize; 4]| std::array::from_fn(|n| a[n] + b[n]);
        Self {
            matches: add(self.matches, other.matches),
            totals: add(self.totals, other.totals),
            hypothesis: self.hypothesis + other.hypothesis,
            reference: self.reference + other.reference,
        }
    }
}

/// A text as sacreBLEU's tokenizer `13a` writes it: tokens with single spaces between them.
#[must_use]
pub fn tokenize_13a(text: &str) -> String {
    static POINTS: LazyLock<[(Regex, &str); 3]> = LazyLock::new(|| {
        [("([^0-9])([.,])", "${1} ${2} "), ("([.,])([^0-9])", " ${1} ${2}"), ("([0-9])(-)", "${1} ${2} ")]
            .map(|(from, to)| (Regex::new(from).expect("is a valid expression"), to))
    });
    let mut line = strip_end(text).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    if line.contains('&') {
        for (entity, letter) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
            line = line.replace(entity, letter);
        }
    }
    let mut spaced = " ".to_owned();
    for letter in line.chars() {
        match letter {
            '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/' => {
                spaced.extend([' ', letter, ' '])
            }
            letter => spaced.push(letter),
        }
    }
    spaced.push(' ');
    for (from, to) in &*POINTS {
        spaced = from.replace_all(&spaced, *to).into_owned();
    }
    split(&spaced).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(predict: &str, label: &str) -> Counts {
        Counts::of(&Pair { predict: predict.to_owned(), label: label.to_owned() })
    }

    /// Worked out by the rule, and the same by sacreBLEU 2.6.0.
    #[test]
    fn tokens_of_13a() {
        for (text, expected) in [
            ("well-\nknown a-\r\nb -\n", "wellknown a- b -"),
            ("&amp;lt; &quot;R&D&quot; <skipped>", "< \" R & D \""),
            ("1,000.5 x.y, .5 5. 5.", "1,000.5 x . y , . 5 5 . 5 ."),
            ("2020-21 a-1 1-a", "2020 - 21 a-1 1 - a"),
            ("a..b...", "a . . b . . ."),
            ("\u{1f}don't\u{85}x/y [z]_~ 5%\u{3000}", "don't x / y [ z ] _ ~ 5 %"),
            (" \n\u{1c}", ""),
        ] {
            assert_eq!(tokenize_13a(text), expected, "{text:?}");
        }
    }

    #[test]
    fn successive_zeros_are_smoothed_more_and_more() {
        let bleu = counts("a b c d", "a x c y").corpus();
        assert_eq!((bleu.counts, bleu.totals), ([2, 0, 0, 0], [4, 3, 2, 1]));
        assert_eq!(bleu.precisions, [50.0, 100.0 / 6.0, 12.5, 12.5]);
        assert!((bleu.score - (50.0f64 * 100.0 / 6.0 * 12.5 * 12.5).powf(0.25)).abs() < 1e-12);
    }

    #[test]
    fn short_texts_score_by_sentence_only() {
        let one = counts("a", "a");
        assert_eq!((one.corpus().score, one.corpus().precisions), (0.0, [100.0, 0.0, 0.0, 0.0]));
        assert!((one.sentence() - 100.0).abs() < 1e-9);
        // One of two tokens: 100 · e^(1 - 2/1).
        assert!((counts("a", "a b").sentence() - 36.787_944_117_144_235).abs() < 1e-9);
        for (predict, label, bp) in
            [("", "a", 0.0), ("a", "", 1.0), ("\n", " ", 1.0), ("a", "b c", (-1.0f64).exp())]
        {
            let counts = counts(predict, label);
            let SacreBleu { score, precisions, bp: got, .. } = counts.corpus();
            assert_eq!(
                (score, precisions, got, counts.sentence()),
                (0.0, [0.0; 4], bp, 0.0),
                "{predict:?} {label:?}"
            );
        }
    }
}
