//! Benchmarks of a comparison's models, from what `asft eval` printed of them: tables in the shape of the paper's 2
//! and 3.

use std::path::{Path, PathBuf};

use asft_eval::page::Block;
use serde_json::Value;

use super::plan::Plan;
use crate::{eval::report::shown, failure::Failure};

/// A summary that `asft eval … --json` printed.
pub struct Summary {
    path: PathBuf,
    value: Value,
}

/// Reads the summaries of a comparison.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Summary>, Failure> {
    let summary = |path: &PathBuf| {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::input(format!("compare.summaries: {}: {error}", path.display())))?;
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::input(format!("compare.summaries: {}: {error}", path.display())))?;
        let summary = Summary { path: path.clone(), value };
        match summary.is_alpaca() || summary.is_arena() || summary.is_bench() {
            true => Ok(summary),
            false => Err(Failure::input(format!(
                "compare.summaries: {}: is no summary of mt-bench show, arena-hard show or alpaca\nhint: name what they print with --json",
                path.display()
            ))),
        }
    };
    paths.iter().map(summary).collect()
}

impl Summary {
    fn is_alpaca(&self) -> bool {
        self.value.get("alpaca").is_some()
    }

    fn is_arena(&self) -> bool {
        self.value.get("models").is_some() && self.value.get("baseline").is_some()
    }

    fn is_bench(&self) -> bool {
        self.value.get("models").is_some() && self.value.get("compare").is_some()
    }

    /// The entry of a model that is named like a variant.
    fn of(&self, variant: &str) -> Option<&Value> {
        let models = self.value.get(if self.is_alpaca() { "alpaca" } else { "models" })?;
        models.as_array()?.iter().find(|model| model["model"] == variant)
    }

    fn name(&self) -> String {
        let judge = || shown(&self.value["judge"], 0);
        match self.is_arena() {
            true => format!("Arena-Hard against {}, by {}", shown(&self.value["baseline"], 0), judge()),
            false => format!("MT-Bench, by {}", judge()),
        }
    }

    fn score(&self, variant: &str) -> String {
        let (score, interval) =
            if self.is_arena() { ("score", "ci95_question") } else { ("average", "ci95") };
        match self.of(variant) {
            Some(model) => format!("{} ({})", shown(&model[score], 2), shown(&model[interval], 2)),
            None => "–".to_owned(),
        }
    }
}

/// The tables; nothing without summaries.
pub fn tables(plan: &Plan, summaries: &[Summary]) -> Vec<Block> {
    let mut blocks = vec![];
    let (texts, judged): (Vec<_>, Vec<_>) = summaries.iter().partition(|summary| summary.is_alpaca());
    if !judged.is_empty() {
        let mut header = vec!["variant".to_owned()];
        header.extend(judged.iter().map(|summary| summary.name()));
        let row = |variant: &String| {
            let mut row = vec![variant.clone()];
            row.extend(judged.iter().map(|summary| summary.score(variant)));
            row
        };
        blocks.push(Block::Heading("Benchmarks (the paper's Table 2)".to_owned()));
        blocks.push(Block::Table { header, rows: plan.variants.iter().map(row).collect() });
        blocks.push(Block::Text("Scores with 95% intervals by question.".to_owned()));
    }
    for summary in texts {
        let greedy = |variant: &str| {
            let drawings = summary.of(variant)?["drawings"].as_array()?;
            drawings.iter().find(|drawing| drawing["drawing"] == "greedy")
        };
        let row = |variant: &String| {
            let of = |read: fn(&Value) -> &Value| {
                greedy(variant).map_or("–".to_owned(), |drawing| shown(read(drawing), 2))
            };
            vec![
                variant.clone(),
                of(|drawing| &drawing["llamafactory"]["bleu-4"]),
                of(|drawing| &drawing["llamafactory"]["rouge-1"]),
                of(|drawing| &drawing["llamafactory"]["rouge-2"]),
                of(|drawing| &drawing["llamafactory"]["rouge-l"]),
                of(|drawing| &drawing["sacrebleu"]["score"]),
                of(|drawing| &drawing["rouge_score"]["rougeL"]),
                of(|drawing| &drawing["tokens"]),
            ]
        };
        let header = [
            "variant",
            "BLEU-4",
            "ROUGE-1",
            "ROUGE-2",
            "ROUGE-L",
            "sacreBLEU",
            "rouge-score ROUGE-L",
            "tokens",
        ];
        blocks.push(Block::Heading("Text metrics (the paper's Table 3)".to_owned()));
        blocks.push(Block::Table {
            header: header.map(str::to_owned).to_vec(),
            rows: plan.variants.iter().map(row).collect(),
        });
        blocks.push(Block::Text(format!(
            "Greedy predictions for {} rows of {}; the first four columns by LLaMA-Factory's rule ({}).",
            shown(&summary.value["rows"], 0),
            shown(&summary.value["data"], 0),
            name(&summary.path)
        )));
    }
    blocks
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn models_are_found_by_their_variants_names() {
        let summary = |value| Summary { path: "s.json".into(), value };
        let bench = summary(json!({
            "judge": "j", "compare": [], "models": [{"model": "dpo", "average": 6.5, "ci95": [6.0, 7.0]}],
        }));
        assert_eq!(
            (bench.name(), bench.score("dpo")),
            ("MT-Bench, by j".to_owned(), "6.50 (6.00 – 7.00)".to_owned())
        );
        assert_eq!(bench.score("asft"), "–");
        let arena = summary(json!({
            "judge": "j", "baseline": "b", "models": [{"model": "dpo", "score": 31.8, "ci95_question": null}],
        }));
        assert_eq!(
            (arena.name(), arena.score("dpo")),
            ("Arena-Hard against b, by j".to_owned(), "31.80 (–)".to_owned())
        );
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        std::fs::write(&path, "{\"pairs\": 1}").unwrap();
        assert!(read(&[path]).is_err());
    }
}
