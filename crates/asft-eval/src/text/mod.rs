//! BLEU and ROUGE of predictions against labels, in three conventions side by side (EVALUATION §2).
//!
//! On the same pairs the conventions differ by factors, so each keeps the name of the program whose numbers it
//! gives: [LLaMA-Factory](LlamaFactory) (characters and jieba's words), [sacreBLEU](SacreBleu) and
//! [rouge-score](RougeTypes).

mod llama_factory;
mod porter;
mod rouge_score;
mod sacrebleu;
mod subsequence;
mod token_ids;
mod white_space;
mod words;

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use self::{
    llama_factory::LlamaFactory,
    porter::stem,
    rouge_score::{RougeTypes, Score},
    sacrebleu::{SacreBleu, tokenize_13a},
    words::words,
};
use crate::{EvalError, jsonl};

/// A generated text and its reference. Files may have other fields beside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// What the model wrote.
    pub predict: String,
    /// What it should have written.
    pub label: String,
}

impl Pair {
    fn has_han(&self) -> bool {
        [&self.predict, &self.label].iter().any(|text| text.contains(words::is_han))
    }
}

/// Pairs of a JSON Lines file, such as LLaMA-Factory's `generated_predictions.jsonl`.
///
/// # Errors
/// If the file cannot be read, a row does not have both texts, or there is no row.
pub fn read(path: &Path) -> Result<Vec<Pair>, EvalError> {
    let rows = jsonl::read_as(path)?;
    if rows.is_empty() {
        let what = "has no rows\nhint: one object {\"predict\", \"label\"} a line (JSON Lines)";
        return Err(EvalError::Input(format!("{}: {what}", path.display())));
    }
    Ok(rows.into_iter().map(|(_, pair)| pair).collect())
}

/// What can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether rouge-score compares stems of words.
    pub stem: bool,
}

/// Metrics of all pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many there are.
    pub pairs: usize,
    /// Pairs with Han text, for which LLaMA-Factory's ROUGE is not exact: that would take jieba's dictionary.
    pub pairs_with_han: usize,
    /// Means of LLaMA-Factory's values.
    pub llamafactory: LlamaFactory,
    /// sacreBLEU of the corpus.
    pub sacrebleu: SacreBleu,
    /// Means of rouge-score's values.
    pub rouge_score: RougeScore,
    /// How long predictions are beside labels.
    pub length: Length,
}

/// Mean F-measures of rouge-score, as percentages.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RougeScore {
    /// Whether stems were compared.
    pub stemmer: bool,
    /// The means.
    #[serde(flatten)]
    pub fmeasure: RougeTypes<f64>,
}

/// Lengths in Unicode scalars, over all pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Length {
    /// Of the predictions.
    pub predict_chars: usize,
    /// Of the labels.
    pub label_chars: usize,
    /// The first over the second; `None` where all labels are empty.
    pub ratio: Option<f64>,
}

/// Metrics of one pair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairScores {
    /// Its place, from 0.
    pub index: usize,
    /// Whether it has Han text.
    pub has_han: bool,
    /// LLaMA-Factory's values.
    pub llamafactory: LlamaFactory,
    /// sacreBLEU of the sentence, over the orders that it has ("effective order").
    pub sacrebleu_sentence: f64,
    /// rouge-score's values, as fractions.
    pub rouge_score: RougeTypes<Score>,
}

/// Metrics of the pairs together and of each. Without pairs everything is 0.
#[must_use]
pub fn evaluate(pairs: &[Pair], options: Options) -> (Summary, Vec<PairScores>) {
    let (scores, counts): (Vec<_>, Vec<_>) = pairs
        .par_iter()
        .enumerate()
        .map(|(index, pair)| {
            let counts = sacrebleu::Counts::of(pair);
            let scores = PairScores {
                index,
                has_han: pair.has_han(),
                llamafactory: llama_factory::llama_factory(pair),
                sacrebleu_sentence: counts.sentence(),
                rouge_score: rouge_score::rouge_score(pair, options),
            };
            (scores, counts)
        })
        .unzip();
    let mean =
        |value: fn(&PairScores) -> f64| scores.iter().map(value).sum::<f64>() / pairs.len().max(1) as f64;
    let chars =
        |text: fn(&Pair) -> &String| pairs.iter().map(|pair| text(pair).chars().count()).sum::<usize>();
    let (predict_chars, label_chars) = (chars(|pair| &pair.predict), chars(|pair| &pair.label));
    let summary = Summary {
        pairs: pairs.len(),
        pairs_with_han: scores.iter().filter(|scores| scores.has_han).count(),
        llamafactory: LlamaFactory {
            bleu_4: mean(|scores| scores.llamafactory.bleu_4),
            rouge_1: mean(|scores| scores.llamafactory.rouge_1),
            rouge_2: mean(|scores| scores.llamafactory.rouge_2),
            rouge_l: mean(|scores| scores.llamafactory.rouge_l),
        },
        sacrebleu: counts.into_iter().fold(sacrebleu::Counts::default(), |sum, counts| sum + counts).corpus(),
        rouge_score: RougeScore {
            stemmer: options.stem,
            fmeasure: RougeTypes {
                rouge1: 100.0 * mean(|scores| scores.rouge_score.rouge1.fmeasure),
                rouge2: 100.0 * mean(|scores| scores.rouge_score.rouge2.fmeasure),
                rouge_l: 100.0 * mean(|scores| scores.rouge_score.rouge_l.fmeasure),
                rouge_lsum: 100.0 * mean(|scores| scores.rouge_score.rouge_lsum.fmeasure),
            },
        },
        length: Length {
            predict_chars,
            label_chars,
            ratio: (label_chars > 0).then(|| predict_chars as f64 / label_chars as f64),
        },
    };
    (summary, scores)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pair(predict: &str, label: &str) -> Pair {
        Pair { predict: predict.to_owned(), label: label.to_owned() }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        for (text, says) in [
            ("", ": has no rows\nhint:"),
            ("{\"predict\": \"a\", \"label\": \"b\"}\n{\"predict\": \"a\"}\n", ":2: missing field `label`"),
            ("\n{\"label\": \"a\", \"predict\": null}\n", ":2: predict: invalid type: null"),
        ] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let error = read(file.path()).unwrap_err();
            assert!(error.to_string().contains(says) && error.is_input(), "{error}");
        }
    }

    #[test]
    fn the_summary_has_the_fields_of_the_specification() {
        let (summary, scores) =
            evaluate(&[pair("A cat.", "a cat"), pair("好 a", "好 b")], Options { stem: true });
        assert_eq!((summary.pairs_with_han, scores[0].has_han, scores[1].has_han), (1, false, true));
        assert_eq!(summary.length, Length { predict_chars: 9, label_chars: 8, ratio: Some(1.125) });
        let keys = |value: &serde_json::Value| {
            value.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" ")
        };
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(keys(&json), "pairs pairs_with_han llamafactory sacrebleu rouge_score length");
        assert_eq!(keys(&json["llamafactory"]), "bleu-4 rouge-1 rouge-2 rouge-l");
        let sacrebleu = "score precisions counts totals bp sys_len ref_len signature";
        assert_eq!(keys(&json["sacrebleu"]), sacrebleu);
        assert_eq!(keys(&json["rouge_score"]), "stemmer rouge1 rouge2 rougeL rougeLsum");
        assert_eq!(serde_json::from_value::<Summary>(json).unwrap(), summary);
    }

    #[test]
    fn every_value_is_finite_and_a_percentage() {
        let texts =
            ["", " ", "\r\n", "\u{1c}\u{1f}", ".", "-\n", "a", "a b", "👍🏽", "e\u{301} İ", "……。？”", "中"];
        for (predict, label) in texts.iter().flat_map(|predict| texts.map(|label| (*predict, label))) {
            let (summary, scores) = evaluate(&[pair(predict, label)], Options { stem: false });
            let json = serde_json::to_value((&scores[0], summary.sacrebleu, summary.rouge_score)).unwrap();
            let mut values = vec![json];
            while let Some(value) = values.pop() {
                match value {
                    serde_json::Value::Object(fields) => {
                        values.extend(fields.into_iter().map(|(_, value)| value))
                    }
                    serde_json::Value::Array(items) => values.extend(items),
                    serde_json::Value::Number(number) => {
                        assert!(
                            (0.0..=100.000_001).contains(&number.as_f64().unwrap()),
                            "{predict:?} {label:?}"
                        );
                    }
                    serde_json::Value::Null => panic!("no number: {predict:?} {label:?}"),
                    _ => {}
                }
            }
        }
        let (none, _) = evaluate(&[], Options { stem: true });
        assert_eq!((none.llamafactory, none.sacrebleu.score), (LlamaFactory::default(), 0.0));
        assert_eq!((none.rouge_score.fmeasure, none.length.ratio), (RougeTypes::default(), None));
    }
}
