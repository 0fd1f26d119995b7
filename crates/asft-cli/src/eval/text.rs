//! `asft eval text`.

use std::path::PathBuf;

use asft_eval::{jsonl, text};
use clap::Args;

use super::{
    print_json,
    table::{number, table},
};
use crate::{
    failure::Failure,
    output::{self, check_writable},
};

#[derive(Args)]
pub struct Arguments {
    /// Rows with predict and label (JSON Lines), such as LLaMA-Factory's generated_predictions.jsonl.
    #[arg(long, value_name = "F.jsonl")]
    input: PathBuf,
    /// Compares whole words in rouge-score, not their stems.
    #[arg(long)]
    no_stem: bool,
    /// Writes the values of each pair.
    #[arg(long, value_name = "OUT.jsonl")]
    per_pair: Option<PathBuf>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(path) = &arguments.per_pair {
        check_writable(path, std::slice::from_ref(&arguments.input))?;
    }
    let pairs = text::read(&arguments.input)?;
    let (summary, per_pair) = text::evaluate(&pairs, text::Options { stem: !arguments.no_stem });
    if let Some(path) = &arguments.per_pair {
        output::write_file(path, jsonl::lines(&per_pair, false).as_bytes())?;
    }
    if arguments.json {
        return print_json(&summary);
    }
    output::print(&shown(&summary))
}

/// The three conventions side by side.
pub fn shown(summary: &text::Summary) -> String {
    let factory = &summary.llamafactory;
    let rouge = &summary.rouge_score.fmeasure;
    let of = |value: f64| number(Some(value), 2);
    let none = || number(None, 2);
    let rows = [
        ["BLEU-4".to_owned(), of(factory.bleu_4), of(summary.sacrebleu.score), none()],
        ["ROUGE-1".to_owned(), of(factory.rouge_1), none(), of(rouge.rouge1)],
        ["ROUGE-2".to_owned(), of(factory.rouge_2), none(), of(rouge.rouge2)],
        ["ROUGE-L".to_owned(), of(factory.rouge_l), none(), of(rouge.rouge_l)],
        ["ROUGE-Lsum".to_owned(), none(), none(), of(rouge.rouge_lsum)],
    ];
    let mut text = table(["", "LLaMA-Factory", "sacreBLEU", "rouge-score"], &rows);
    let length = &summary.length;
    text += &format!(
        "\n{} pairs; predictions have {} characters, labels {} (ratio {})\nsacreBLEU: {}\nrouge-score: {}\n",
        summary.pairs,
        length.predict_chars,
        length.label_chars,
        number(length.ratio, 3),
        summary.sacrebleu.signature,
        if summary.rouge_score.stemmer { "stems compared" } else { "whole words compared" },
    );
    if summary.pairs_with_han > 0 {
        text += &format!(
            "{} pairs have Chinese text, for which LLaMA-Factory's ROUGE is not exact here\n",
            summary.pairs_with_han
        );
    }
    text
}
