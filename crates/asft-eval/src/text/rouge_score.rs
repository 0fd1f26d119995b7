//! ROUGE as Google's rouge-score 0.1.2 computes it.

use serde::{Deserialize, Serialize};

use super::{
    Options, Pair,
    porter::stem,
    subsequence::Subsequences,
    token_ids::{Ngrams, TokenIds, shared},
};

/// A ROUGE value of a pair, as fractions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Share of the hypothesis that is in the reference.
    pub precision: f64,
    /// Share of the reference that is in the hypothesis.
    pub recall: f64,
    /// Their harmonic mean.
    pub fmeasure: f64,
}

impl Score {
    fn new(overlap: usize, hypothesis: usize, reference: usize) -> Self {
        let [precision, recall] = [hypothesis, reference].map(|count| overlap as f64 / count.max(1) as f64);
        let fmeasure = match overlap {
            0 => 0.0,
            _ => 2.0 * precision * recall / (precision + recall),
        };
        Self { precision, recall, fmeasure }
    }
}

/// A value for each of rouge-score's types, under its names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RougeTypes<T> {
    /// Words.
    pub rouge1: T,
    /// Pairs of words.
    pub rouge2: T,
    /// Longest common subsequence of the texts.
    #[serde(rename = "rougeL")]
    pub rouge_l: T,
    /// Longest common subsequences of their lines, united.
    #[serde(rename = "rougeLsum")]
    pub rouge_lsum: T,
}

/// Values of a pair.
pub(super) fn rouge_score(pair: &Pair, options: Options) -> RougeTypes<Score> {
    let [predict, label] = [&pair.predict, &pair.label].map(|text| lines(text, options.stem));
    let mut ids = TokenIds::default();
    let [predict, label] = [&predict, &label].map(|lines| {
        lines.iter().map(|line| line.iter().map(|word| ids.id(word)).collect()).collect::<Vec<Vec<u32>>>()
    });
    let [hypothesis, reference] = [&predict, &label].map(|lines| lines.concat());
    let score = |overlap| Score::new(overlap, hypothesis.len(), reference.len());
    let [h, r] = [&hypothesis, &reference].map(|tokens| Ngrams::of(tokens));
    let of_ngrams = |n| {
        let (h, r) = (h.order(n), r.order(n));
        Score::new(shared(&h, &r), h.len(), r.len())
    };
    let mut subsequences = Subsequences::new(ids.len());
    RougeTypes {
        rouge1: of_ngrams(1),
        rouge2: of_ngrams(2),
        rouge_l: score(subsequences.length(&reference, &hypothesis)),
        rouge_lsum: score(united(&label, &predict, ids.len(), &mut subsequences)),
    }
}

/// Words of each line. A stem is never empty, so that none is lost.
fn lines(text: &str, stemmed: bool) -> Vec<Vec<String>> {
    let words = |line: &str| {
        line.split(|letter: char| !letter.is_ascii_lowercase() && !letter.is_ascii_digit())
            .filter(|word| !word.is_empty())
            .map(|word| if stemmed && word.len() > 3 { stem(word) } else { word.to_owned() })
            .collect()
    };
    text.to_lowercase().split('\n').map(words).collect()
}

/// Words of the reference's lines that lie on a longest common subsequence with any line of the hypothesis, each
/// word at most as often as the hypothesis has it.
fn united(
    reference: &[Vec<u32>],
    hypothesis: &[Vec<u32>],
    tokens: usize,
    subsequences: &mut Subsequences,
) -> usize {
    let mut left = vec![0usize; tokens];
    hypothesis.iter().flatten().for_each(|&token| left[token as usize] += 1);
    let mut hits = 0;
    for line in reference {
        let mut found = vec![false; line.len()];
        for other in hypothesis {
            subsequences.positions(line, other).into_iter().for_each(|position| found[position] = true);
        }
        for (&token, found) in line.iter().zip(found) {
            let left = &mut left[token as usize];
            if found && *left > 0 {
                *left -= 1;
                hits += 1;
            }
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(predict: &str, label: &str) -> RougeTypes<Score> {
        rouge_score(&Pair { predict: predict.to_owned(), label: label.to_owned() }, Options { stem: true })
    }

    /// The first is the example of Lin (2004), section 3.2.
    #[test]
    fn lines_unite_and_words_count_once() {
        for (predict, label, hits, hypothesis, reference) in [
            ("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", 4, 10, 5),
            ("a\na", "a a", 1, 2, 2),
            ("a", "a\n\na", 1, 1, 2),
            ("b\r\na", "a\r\nb", 2, 2, 2),
        ] {
            assert_eq!(of(predict, label).rouge_lsum, Score::new(hits, hypothesis, reference), "{predict:?}");
        }
        // As one text the lines are out of order.
        assert_eq!(of("b\r\na", "a\r\nb").rouge_l, Score::new(1, 2, 2));
    }

    #[test]
    fn lower_case_is_that_of_unicode_and_words_that_of_ascii() {
        // A dotted I becomes an i and a combining dot, the Kelvin sign a k.
        assert_eq!(of("\u{130}\u{212a}x", "i KX").rouge1.fmeasure, 1.0);
        assert_eq!(of("ΣΑΣ é 👍🏽", "ΣΑΣ é 👍🏽").rouge1, Score::default());
        assert_eq!(of("Running, C++ 3.14%", "run c 3 14").rouge1.fmeasure, 1.0);
    }
}
