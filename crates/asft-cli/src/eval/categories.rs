//! MT-Bench's ratings by category, around a circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::{
    failure::Failure,
    figure::{self, Panel},
    output::{self, note},
};

/// Mean ratings of models by category.
pub type ByCategory = [(String, BTreeMap<String, f64>)];

fn all(models: &ByCategory) -> Vec<String> {
    let all: BTreeSet<&String> = models.iter().flat_map(|(_, by_category)| by_category.keys()).collect();
    all.into_iter().cloned().collect()
}

/// The models that have ratings in all categories; `None` without any, or with fewer than three categories.
pub fn panel(models: &ByCategory) -> Option<Panel> {
    let axes = all(models);
    let whole = models.iter().filter(|(_, of)| of.len() == axes.len());
    let series: Vec<_> =
        whole.map(|(model, of)| (model.clone(), axes.iter().map(|axis| of[axis]).collect())).collect();
    (axes.len() > 2 && !series.is_empty()).then(|| Panel::radar("Ratings by category", &axes, 10.0, &series))
}

/// Writes the picture, and tells whom it leaves out.
pub fn plot(models: &ByCategory, with_questions: bool, path: &Path) -> Result<(), Failure> {
    let axes = all(models);
    let panel = panel(models).ok_or_else(|| {
        let (what, hint) = why_none(models, with_questions, &axes);
        Failure::input(format!("--plot: {what}\nhint: {hint}"))
    })?;
    for (model, of) in models.iter().filter(|(_, of)| of.len() < axes.len()) {
        note!("--plot leaves {model} out: it has ratings in {} of {} categories", of.len(), axes.len());
    }
    let svg = figure::svg(vec![vec![panel]], [620.0, 520.0]);
    output::write_file(path, svg.as_bytes())
}

fn why_none(models: &ByCategory, with_questions: bool, axes: &[String]) -> (String, &'static str) {
    let named = axes.join(", ");
    match axes.len() {
        _ if models.is_empty() => {
            ("pairwise judgments have no ratings to draw".to_owned(), "leave it out, or show ratings")
        }
        0 if !with_questions => {
            ("judgments do not say their categories".to_owned(), "name the --questions, which do")
        }
        0 => ("no model has a rating that counts".to_owned(), "leave it out to see why"),
        1..=2 => (
            format!("a circle needs three categories, and there are ratings in {named} only"),
            "have questions of further categories judged, or leave it out",
        ),
        _ => (
            format!("no model has ratings in all of {named}"),
            "have the missing questions judged, or leave it out",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_there_is_no_picture_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.svg");
        let models = |of: &[&[&str]]| -> Vec<(String, BTreeMap<String, f64>)> {
            let rated = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 5.0)).collect();
            of.iter().map(|names| ("m".to_owned(), rated(names))).collect()
        };
        let cases: [(&[&[&str]], bool, &str); 5] = [
            (&[], true, "--plot: pairwise judgments have no ratings"),
            (&[&[]], false, "hint: name the --questions"),
            (&[&[]], true, "no model has a rating that counts"),
            (&[&["math", "stem"]], true, "ratings in math, stem only"),
            (&[&["math", "stem"], &["writing"]], true, "no model has ratings in all of math, stem, writing"),
        ];
        for (of, with_questions, message) in cases {
            let Err(Failure::Input(error)) = plot(&models(of), with_questions, &path) else {
                panic!("{message}")
            };
            assert!(error.to_string().contains(message), "{message}: {error}");
        }
        assert!(!path.exists());
        plot(&models(&[&["math", "stem", "writing"], &["math"]]), true, &path).unwrap();
        assert!(path.exists());
    }
}
