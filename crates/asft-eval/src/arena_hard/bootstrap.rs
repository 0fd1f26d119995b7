//! The interval of v0.1: percentiles over draws of single rows, equal to those of the original given the order.
//!
//! It treats both games of a question and the copies of a strong verdict as independent, and is too narrow.

use std::collections::BTreeMap;

use super::battle::Outcome;
use crate::{numpy::LegacyRandom, statistics::percentile};

const SEED: u32 = 42;
const ROUNDS: usize = 100;

/// How often each outcome was drawn in each round, the rows of all outcomes being drawn with replacement.
pub(super) fn rounds(outcomes: &[Outcome]) -> Vec<Vec<u32>> {
    let rows: Vec<usize> = outcomes
        .iter()
        .enumerate()
        .flat_map(|(index, outcome)| (0..outcome.weight).map(move |_| index))
        .collect();
    let mut random = LegacyRandom::new(SEED);
    (0..ROUNDS)
        .map(|_| {
            let mut drawn = vec![0; outcomes.len()];
            rows.iter().for_each(|_| drawn[rows[random.below(rows.len())]] += 1);
            drawn
        })
        .collect()
}

/// The share of points that each model has, with outcomes counted as `drawn`.
pub(super) fn shares<'a>(outcomes: &'a [Outcome], drawn: &[u32]) -> BTreeMap<&'a str, f64> {
    let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (outcome, count) in outcomes.iter().zip(drawn).filter(|(_, count)| **count > 0) {
        let (points, weight) = sums.entry(&outcome.model).or_default();
        *points += f64::from(*count) * outcome.points;
        *weight += f64::from(*count);
    }
    sums.into_iter().map(|(model, (points, weight))| (model, points / weight)).collect()
}

/// Each model's interval in percent; models without a row have none.
pub(super) fn intervals(outcomes: &[Outcome], rounds: &[Vec<u32>]) -> BTreeMap<String, [f64; 2]> {
    let mut leads: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for drawn in rounds {
        for (model, share) in shares(outcomes, drawn) {
            leads.entry(model.to_owned()).or_default().push(rating_lead(share));
        }
    }
    leads.into_iter().filter_map(|(model, leads)| Some((model, interval(&leads)?))).collect()
}

/// Bounds of ratings above the baseline, as percentages.
pub(super) fn interval(leads: &[f64]) -> Option<[f64; 2]> {
    Some([percent(percentile(leads, 0.025)?), percent(percentile(leads, 0.975)?)])
}

/// The rating above the baseline's on the Elo scale, infinite at 0 and 1.
fn rating_lead(share: f64) -> f64 {
    400.0 * (share / (1.0 - share)).log10()
}

/// The expected score in percent of a rating above the baseline's.
pub(super) fn percent(lead: f64) -> f64 {
    100.0 / (1.0 + 10f64.powf(-lead / 400.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_scale_are_exact() {
        for share in [0.0, 0.25, 0.5, 1.0] {
            assert!((percent(rating_lead(share)) - 100.0 * share).abs() < 1e-12, "{share}");
        }
        assert_eq!((percent(rating_lead(0.0)), percent(rating_lead(1.0))), (0.0, 100.0));
    }

    #[test]
    fn rounds_draw_as_many_rows_as_there_are() {
        let outcome = |model: &str, points, weight| Outcome {
            question: "q".into(),
            model: model.into(),
            points,
            weight,
        };
        let outcomes = [outcome("m", 1.0, 3), outcome("m", 0.0, 1), outcome("n", 0.5, 1)];
        let rounds = rounds(&outcomes);
        assert_eq!(rounds.len(), 100);
        assert!(rounds.iter().all(|drawn| drawn.iter().sum::<u32>() == 5));
        assert_eq!(shares(&outcomes, &[3, 1, 0]), BTreeMap::from([("m", 0.75)]));
        assert_eq!(intervals(&outcomes, &rounds)["n"], [50.0, 50.0]);
    }
}
