//! Text metrics beside those of the programs they are named after.

use std::path::Path;

use asft_eval::{
    jsonl,
    text::{Options, PairScores, RougeTypes, Score, Summary, evaluate, read, stem, tokenize_13a, words},
};
use serde_json::Value;

use crate::shared::data;

fn golden(path: &Path) -> Vec<Value> {
    jsonl::read(path).unwrap().into_iter().map(|(_, row)| row).collect()
}

#[track_caller]
fn close(got: f64, golden: &Value) {
    let golden = golden.as_f64().expect("a number");
    assert!((got - golden).abs() <= 1e-9, "{got} for {golden}");
}

fn by_name<T>(types: &RougeTypes<T>) -> [(&'static str, &T); 4] {
    [
        ("rouge1", &types.rouge1),
        ("rouge2", &types.rouge2),
        ("rougeL", &types.rouge_l),
        ("rougeLsum", &types.rouge_lsum),
    ]
}

#[test]
fn every_pair_scores_as_recorded() {
    let Some(path) = data("golden/metrics_golden.jsonl") else { return };
    let (pairs, golden) = (read(&path).unwrap(), golden(&path));
    assert_eq!(pairs.len(), 44);
    for (stem, name) in [(true, "rouge_score_stem"), (false, "rouge_score_nostem")] {
        let (_, scores) = evaluate(&pairs, Options { stem });
        for (PairScores { llamafactory, sacrebleu_sentence, rouge_score, .. }, golden) in
            scores.iter().zip(&golden)
        {
            for (value, name) in [
                (llamafactory.bleu_4, "bleu-4"),
                (llamafactory.rouge_1, "rouge-1"),
                (llamafactory.rouge_2, "rouge-2"),
                (llamafactory.rouge_l, "rouge-l"),
            ] {
                assert_eq!(Some(value), golden["llamafactory"][name].as_f64(), "{}: {name}", golden["id"]);
            }
            close(*sacrebleu_sentence, &golden["sacrebleu_sentence_effective_order"]);
            for (kind, &Score { precision, recall, fmeasure }) in by_name(rouge_score) {
                let golden = &golden[name][kind];
                [precision, recall, fmeasure]
                    .into_iter()
                    .enumerate()
                    .for_each(|(i, value)| close(value, &golden[i]));
            }
        }
    }
}

#[test]
fn tokens_are_those_recorded() {
    let Some(path) = data("golden/metrics_golden.jsonl") else { return };
    for (pair, golden) in read(&path).unwrap().iter().zip(golden(&path)) {
        // No more than 200 words and 1,200 characters are recorded.
        let words: Vec<_> = words(&pair.predict).into_iter().take(200).collect();
        let tokens: String = tokenize_13a(&pair.predict).chars().take(1200).collect();
        assert!(serde_json::json!(words) == golden["jieba_predict"], "{}: jieba", golden["id"]);
        assert!(tokens == golden["tok13a_predict"], "{}: 13a", golden["id"]);
    }
}

#[test]
fn corpora_score_as_recorded() {
    let (Some(path), Some(corpus)) =
        (data("golden/metrics_golden.jsonl"), data("golden/metrics_golden_corpus.json"))
    else {
        return;
    };
    let (pairs, rows) = (read(&path).unwrap(), golden(&path));
    let corpus: Value = serde_json::from_slice(&std::fs::read(corpus).unwrap()).unwrap();
    let is_real = |row: &Value| row["id"].as_str().unwrap().starts_with("dpo_en_demo");
    let real: Vec<_> =
        pairs.iter().zip(&rows).filter(|(_, row)| is_real(row)).map(|(pair, _)| pair.clone()).collect();
    for (pairs, golden) in [(&pairs, &corpus["all"]), (&pairs, &corpus["no_han"]), (&real, &corpus["real"])] {
        for (stem, name) in
            [(true, "rouge_score_stem_f_mean_x100"), (false, "rouge_score_nostem_f_mean_x100")]
        {
            let (Summary { pairs, pairs_with_han, llamafactory, sacrebleu, rouge_score, .. }, _) =
                evaluate(pairs, Options { stem });
            assert_eq!((golden["n"].as_u64(), pairs_with_han), (Some(pairs as u64), 0));
            for (value, name) in [
                (llamafactory.bleu_4, "bleu-4"),
                (llamafactory.rouge_1, "rouge-1"),
                (llamafactory.rouge_2, "rouge-2"),
                (llamafactory.rouge_l, "rouge-l"),
            ] {
                close(value, &golden["llamafactory_mean"][name]);
            }
            for (kind, &value) in by_name(&rouge_score.fmeasure) {
                close(value, &golden[name][kind]);
            }
            let golden = &golden["sacrebleu"];
            close(sacrebleu.score, &golden["score"]);
            close(sacrebleu.bp, &golden["bp"]);
            for n in 0..4 {
                close(sacrebleu.precisions[n], &golden["precisions"][n]);
            }
            let exact = serde_json::json!(sacrebleu);
            for name in ["counts", "totals", "sys_len", "ref_len", "signature"] {
                assert_eq!(exact[name], golden[name], "{name}");
            }
        }
    }
}

#[test]
fn words_stem_as_recorded() {
    let Some(path) = data("golden/porter_nltk.tsv") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    for line in text.lines() {
        let (word, golden) = line.split_once('\t').expect("two columns");
        assert_eq!(stem(word), golden, "{word}");
    }
    assert!(text.lines().count() > 2000);
}
