//! The metrics that LLaMA-Factory prints: ROUGE over jieba's words, BLEU-4 over characters.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{
    Pair,
    subsequence::Subsequences,
    token_ids::{Ngrams, TokenIds, shared},
    white_space::{is_space, split, strip_end},
    words::words,
};

/// Percentages, those of a pair rounded to 4 decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LlamaFactory {
    /// Geometric mean of the precisions of 1 to 4 characters, with a penalty for short text.
    #[serde(rename = "bleu-4")]
    pub bleu_4: f64,
    /// F-measure of distinct words.
    #[serde(rename = "rouge-1")]
    pub rouge_1: f64,
    /// F-measure of distinct pairs of words.
    #[serde(rename = "rouge-2")]
    pub rouge_2: f64,
    /// F-measure of the longest common subsequence of words.
    #[serde(rename = "rouge-l")]
    pub rouge_l: f64,
}

/// Values of a pair.
pub(super) fn llama_factory(pair: &Pair) -> LlamaFactory {
    let [rouge_1, rouge_2, rouge_l] = rouge(&pair.predict, &pair.label).map(percent);
    LlamaFactory { bleu_4: percent(bleu_4(&pair.predict, &pair.label)), rouge_1, rouge_2, rouge_l }
}

/// Correctly rounded from all digits of the double, exact ties to even.
fn percent(fraction: f64) -> f64 {
    format!("{:.4}", fraction * 100.0).parse().expect("a number was written")
}

fn rouge(predict: &str, label: &str) -> [f64; 3] {
    if [predict, label].iter().any(|text| text.chars().all(is_space)) {
        return [0.0; 3];
    }
    let (predict, label) = (pieces(predict), pieces(label));
    let mut ids = TokenIds::default();
    let [hypothesis, reference] = [&predict, &label]
        .map(|pieces| tokens(pieces).into_iter().map(|token| ids.id(token)).collect::<Vec<_>>());
    let [h, r] = [&hypothesis, &reference].map(|tokens| Ngrams::of(tokens));
    let of_sets = |n| {
        let (mut h, mut r) = (h.order(n), r.order(n));
        h.dedup();
        r.dedup();
        f_measure(shared(&h, &r), h.len(), r.len())
    };
    let longest = Subsequences::new(ids.len()).length(&reference, &hypothesis);
    [of_sets(1), of_sets(2), f_measure(longest, hypothesis.len(), reference.len())]
}

fn f_measure(overlap: usize, hypothesis: usize, reference: usize) -> f64 {
    let [p, q] = [hypothesis, reference].map(|count| overlap as f64 / count.max(1) as f64);
    2.0 * (p * q / (p + q + 1e-8))
}

/// Words with single spaces between them, and a newline after what rouge-chinese takes for a sentence's end.
fn pieces(text: &str) -> String {
    static ENDS: LazyLock<[Regex; 4]> = LazyLock::new(|| {
        ["([。！？?])([^”’])", r"(\.{6})([^”’])", "(…{2})([^”’])", "([。！？?][”’])([^，。！？?])"]
            .map(|end| Regex::new(end).expect("is a valid expression"))
    });
    ENDS.iter().fold(words(text).join(" "), |text, end| end.replace_all(&text, "${1}\n${2}").into_owned())
}

/// Words of all pieces. A piece of nothing but white space is one empty word.
fn tokens(pieces: &str) -> Vec<&str> {
    let mut tokens = vec![];
    for piece in strip_end(pieces).split('\n').filter(|piece| !piece.is_empty()) {
        let before = tokens.len();
        tokens.extend(split(piece));
        if tokens.len() == before {
            tokens.push("");
        }
    }
    tokens
}

/// NLTK's sentence BLEU with its third smoothing, over characters.
fn bleu_4(predict: &str, label: &str) -> f64 {
    let [hypothesis, reference] =
        [predict, label].map(|text| text.chars().map(u32::from).collect::<Vec<_>>());
    let [h, r] = [&hypothesis, &reference].map(|tokens| Ngrams::of(tokens));
    let (mut zeros, mut log_precisions) = (0, 0.0);
    for n in 1..=4 {
        let h = h.order(n);
        let matches = match shared(&h, &r.order(n)) {
            0 if n == 1 => return 0.0,
            0 => {
                zeros += 1;
                0.5f64.powi(zeros)
            }
            matches => matches as f64,
        };
        log_precisions += (matches / h.len().max(1) as f64).ln() / 4.0;
    }
    let ratio = reference.len() as f64 / hypothesis.len() as f64;
    let brevity = if ratio < 1.0 { 1.0 } else { (1.0 - ratio).exp() };
    brevity * log_precisions.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(predict: &str, label: &str) -> [f64; 4] {
        let LlamaFactory { bleu_4, rouge_1, rouge_2, rouge_l } =
            llama_factory(&Pair { predict: predict.to_owned(), label: label.to_owned() });
        [bleu_4, rouge_1, rouge_2, rouge_l]
    }

    #[test]
    fn ties_go_to_the_even_digit() {
        for (fraction, rounded) in [(0.000_312_5, 0.0312), (0.000_937_5, 0.0938), (0.999_999_9, 100.0)] {
            assert_eq!(percent(fraction), rounded);
        }
    }

    #[test]
    fn pieces_of_white_space_count_as_an_empty_word() {
        for (text, expected) in [
            ("a\n\nb", vec!["a", "", "b"]),
            ("a\r\n\r\nb\n \n", vec!["a", "", "b"]),
            ("\u{1c}\na", vec!["", "a"]),
            ("\na", vec!["a"]),
            ("a?  b", vec!["a", "?", "b"]),
            ("a? \n b", vec!["a", "?", "", "b"]),
        ] {
            assert_eq!(tokens(&pieces(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn a_blank_side_has_no_rouge() {
        assert_eq!(of("", ""), [0.0; 4]);
        assert_eq!(of("a", " \u{1c}\r\n"), [0.0; 4]);
        // 2 of 3 characters, 1 of 2 pairs, 1/2 and 1/4 of one: (1/24)^(1/4).
        assert_eq!(of("\u{1c}\n ", "\u{1c}\n"), [45.1801, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn bleu_counts_raw_characters() {
        // 1-grams 2/2, 2-grams 1/1; of longer ones, which are none, 1/2 and 1/4: (1/8)^(1/4).
        assert_eq!(of("e\u{301}", "e\u{301}")[0], 59.4604);
        // Case counts, and spaces: 2/3, 1/2, 1/2 and 1/4 of one.
        assert_eq!(of("A b", "a b")[0], 45.1801);
    }
}
