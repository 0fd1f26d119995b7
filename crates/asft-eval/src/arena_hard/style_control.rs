//! Scores with the style of the answers taken out: v0.1's joint fit, and our own reading at equal style.

use std::collections::BTreeMap;

use super::{
    Answers,
    battle::Outcome,
    bootstrap::{interval, percent},
    logistic::{Row, fit},
    style::StyleCounts,
    summary::StyledScore,
};
use crate::EvalError;

const FEATURES: usize = 4;

/// How features are scaled before the fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scaling {
    /// v0.1's: centred, so that with one or few models next to nothing is taken out.
    Centred,
    /// Ours: not centred, so that the score is that of answers of equal style.
    Uncentred,
}

/// By how much the baseline's answer has more of each feature, for every outcome.
pub(super) fn differences(
    outcomes: &[Outcome],
    baseline: &Answers,
    answers: &[Answers],
) -> Result<Vec<[f64; FEATURES]>, EvalError> {
    outcomes
        .iter()
        .map(|outcome| {
            let model = answers.iter().find(|file| file.id == outcome.model).ok_or_else(|| {
                EvalError::Input(format!(
                    "style control needs the answers of {}, and they are not given\nhint: --answers",
                    outcome.model
                ))
            })?;
            let a = StyleCounts::of_answer(baseline, &outcome.question)?.features();
            let b = StyleCounts::of_answer(model, &outcome.question)?.features();
            Ok(std::array::from_fn(|feature| (a[feature] - b[feature]) / (a[feature] + b[feature] + 1.0)))
        })
        .collect()
}

/// Every model's score from one joint fit, with the interval of v0.1's draws.
pub(super) fn scores(
    outcomes: &[Outcome],
    differences: &[[f64; FEATURES]],
    rounds: &[Vec<u32>],
    scaling: Scaling,
) -> BTreeMap<String, StyledScore> {
    let mut columns = BTreeMap::new();
    for outcome in outcomes {
        let next = columns.len() + 1;
        columns.entry(outcome.model.as_str()).or_insert(next);
    }
    let weights: Vec<u32> = outcomes.iter().map(|outcome| outcome.weight).collect();
    let styles = scaled(differences, &weights, scaling);
    let width = 1 + columns.len() + FEATURES;
    let fit_drawn = |drawn: &[u32]| {
        let rows: Vec<Row> = outcomes
            .iter()
            .zip(&styles)
            .zip(drawn)
            .filter(|(_, count)| **count > 0)
            .map(|((outcome, style), count)| {
                let mut features = vec![0.0; width];
                features[0] = std::f64::consts::LN_10;
                features[columns[outcome.model.as_str()]] = -std::f64::consts::LN_10;
                features[width - FEATURES..].copy_from_slice(style);
                // Every battle stands twice, a tie once as a win of each side.
                Row { features, won: 1.0 - outcome.points, count: 2.0 * f64::from(*count) }
            })
            .collect();
        fit(&rows, width)
    };
    let lead = |weights: &[f64], column: usize| 400.0 * (weights[column] - weights[0]);

    let all = fit_drawn(&weights);
    let mut leads: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for drawn in rounds {
        let fitted = fit_drawn(drawn);
        for (model, column) in &columns {
            let is_drawn = |(outcome, count): (&Outcome, &u32)| outcome.model == *model && *count > 0;
            if outcomes.iter().zip(drawn).any(is_drawn) {
                leads.entry(model).or_default().push(lead(&fitted, *column));
            }
        }
    }
    let coef = std::array::from_fn(|feature| all[width - FEATURES + feature]);
    columns
        .iter()
        .map(|(model, column)| {
            let ci95 = leads.get(model).and_then(|leads| interval(leads));
            ((*model).to_owned(), StyledScore { score: percent(lead(&all, *column)), ci95, coef })
        })
        .collect()
}

/// Differences in units of their standard deviation over the weighted rows; a feature that never differs stays 0.
fn scaled(differences: &[[f64; FEATURES]], weights: &[u32], scaling: Scaling) -> Vec<[f64; FEATURES]> {
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let mean_of = |value: &dyn Fn(&[f64; FEATURES]) -> f64| {
        differences.iter().zip(weights).map(|(row, weight)| f64::from(*weight) * value(row)).sum::<f64>()
            / total
    };
    let mut scaled = differences.to_vec();
    for feature in 0..FEATURES {
        let mean = mean_of(&|row| row[feature]);
        let deviation = mean_of(&|row| (row[feature] - mean).powi(2)).sqrt();
        for row in &mut scaled {
            let value = match scaling {
                Scaling::Centred => row[feature] - mean,
                Scaling::Uncentred => row[feature],
            };
            row[feature] = if deviation > 0.0 { value / deviation } else { 0.0 };
        }
    }
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_counts_rows_by_weight() {
        let differences = [[1.0, 0.0, 5.0, 0.0], [-1.0, 0.0, 5.0, 2.0]];
        let centred = scaled(&differences, &[3, 1], Scaling::Centred);
        // Mean 1/2, variance 3/4.
        assert!((centred[0][0] - 0.5 / 0.75f64.sqrt()).abs() < 1e-12);
        assert_eq!((centred[0][1], centred[0][2]), (0.0, 0.0));
        let uncentred = scaled(&differences, &[3, 1], Scaling::Uncentred);
        assert!((uncentred[0][0] - 1.0 / 0.75f64.sqrt()).abs() < 1e-12);
        assert_eq!(uncentred[0][3], 0.0);
    }
}
