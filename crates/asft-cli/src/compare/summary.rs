//! From the results of runs to one line a variant.

use std::collections::BTreeMap;

use asft_eval::statistics::Estimate;

use super::{plan::Plan, record::Record};

/// What is known of a variant so far.
pub struct Summary<'a> {
    /// Its name.
    pub variant: &'a str,
    /// Each learning rate with how good the first seed's run is on the validation pairs, greater being better.
    pub rates: Vec<(f64, Option<f64>)>,
    /// The learning rate that was chosen, once all were tried.
    pub chosen: Option<f64>,
    /// Its runs, by seed.
    pub runs: Vec<&'a Record>,
}

/// A number of a test pair.
pub type OfPair = fn(&super::record::TestPair) -> f64;

/// Change of the margin, nats per token.
pub const MARGIN: OfPair = |pair| {
    let [chosen, rejected] = pair.changes();
    chosen - rejected
};
/// Change of the chosen answer's log-prob per token.
pub const CHOSEN: OfPair = |pair| pair.changes()[0];
/// Change of the rejected answer's.
pub const REJECTED: OfPair = |pair| pair.changes()[1];
/// Whether the chosen answer is likelier per token after training.
pub const ACCURACY: OfPair = |pair| f64::from(pair.after[0] > pair.after[1]);
/// The same before it.
pub const ACCURACY_BEFORE: OfPair = |pair| f64::from(pair.before[0] > pair.before[1]);

impl<'a> Summary<'a> {
    /// Of one variant, from all results there are.
    pub fn new(plan: &'a Plan, variant: &'a str, records: &'a [Record]) -> Self {
        let settings = &plan.settings;
        let find = |rate: f64, seed: u64| {
            records.iter().find(|record| {
                let config = &record.config;
                record.variant == variant
                    && config.optimizer.learning_rate == rate
                    && config.train.seed == seed
            })
        };
        let score = |rate: f64| {
            let metrics = find(rate, settings.seeds[0])?.last().validation.metrics?;
            settings.select.score(&metrics)
        };
        let rates: Vec<_> = settings.learning_rates.iter().map(|&rate| (rate, score(rate))).collect();
        let chosen = best(&rates);
        let runs = match chosen {
            Some(rate) => settings.seeds.iter().filter_map(|&seed| find(rate, seed)).collect(),
            None => vec![],
        };
        Self { variant, rates, chosen, runs }
    }

    /// Mean of a number over the test pairs, estimated from the seeds.
    pub fn over_seeds(&self, of: OfPair) -> Option<Estimate> {
        let means: Vec<f64> = self
            .runs
            .iter()
            .map(|run| run.test_pairs.iter().map(of).sum::<f64>() / run.test_pairs.len().max(1) as f64)
            .collect();
        Estimate::of(&means)
    }

    /// A number of each test pair, meaned over the seeds, by the pair's place.
    pub fn by_pair(&self, of: OfPair) -> BTreeMap<usize, f64> {
        let mut sums = BTreeMap::new();
        for run in &self.runs {
            for pair in &run.test_pairs {
                *sums.entry(pair.place).or_insert(0.0) += of(pair) / self.runs.len() as f64;
            }
        }
        sums
    }

    /// Mean of a number, estimated from the test pairs.
    pub fn over_pairs(&self, of: OfPair) -> Option<Estimate> {
        Estimate::of(&self.by_pair(of).into_values().collect::<Vec<_>>())
    }

    /// Mean difference to another variant, pair by pair.
    pub fn difference(&self, other: &Self, of: OfPair) -> Option<Estimate> {
        let (own, others) = (self.by_pair(of), other.by_pair(of));
        let differences: Vec<f64> =
            own.iter().filter_map(|(place, own)| Some(own - others.get(place)?)).collect();
        Estimate::of(&differences)
    }
}

/// The rate with the greatest score, the first of equals; `None` while one has none.
fn best(rates: &[(f64, Option<f64>)]) -> Option<f64> {
    let mut best: Option<(f64, f64)> = None;
    for (rate, score) in rates {
        let score = (*score)?;
        if best.is_none_or(|(_, greatest)| score > greatest) {
            best = Some((*rate, score));
        }
    }
    best.map(|(rate, _)| rate)
}

#[cfg(test)]
mod tests {
    use super::best;

    #[test]
    fn the_best_rate_waits_for_all() {
        assert_eq!(best(&[(1.0, Some(0.2)), (2.0, Some(0.3)), (3.0, Some(0.3))]), Some(2.0));
        assert_eq!(best(&[(1.0, Some(0.2)), (2.0, None)]), None);
    }
}
