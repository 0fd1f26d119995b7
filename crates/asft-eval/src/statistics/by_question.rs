//! Weighted means whose rows come in groups: the verdicts on one question are not independent (EVALUATION §9).

use std::{collections::BTreeMap, ops::RangeInclusive};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::percentile;

/// Fewer questions than this make an interval that is to be read with care.
pub const FEW_QUESTIONS: usize = 30;

/// Draws of [`ByQuestion::bootstrap`].
pub const BOOTSTRAP_ROUNDS: usize = 10_000;

/// The half width of a 95% interval in standard errors.
const Z975: f64 = 1.96;

/// Sums by question of weights and of weight times value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByQuestion<Q: Ord> {
    sums: BTreeMap<Q, Sums>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    values: f64,
    weights: f64,
}

/// The difference of two models on the questions they share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// Shared questions.
    pub questions: usize,
    /// Mean of the first less mean of the second.
    pub mean: f64,
    /// Its standard error; absent for one question.
    pub se: Option<f64>,
    /// 95% interval of the difference.
    pub ci95: Option<[f64; 2]>,
    /// The difference that would be found with a power of 80% at a level of 5%.
    pub smallest_detectable: Option<f64>,
}

impl Paired {
    /// Whether the interval tells the two apart.
    #[must_use]
    pub fn is_distinguishable(&self) -> bool {
        self.ci95.is_some_and(|[low, high]| low > 0.0 || high < 0.0)
    }
}

impl<Q: Ord + Clone> ByQuestion<Q> {
    /// Without rows.
    #[must_use]
    pub fn new() -> Self {
        Self { sums: BTreeMap::new() }
    }

    /// Adds a row of a question.
    pub fn add(&mut self, question: Q, value: f64, weight: f64) {
        let sums = self.sums.entry(question).or_default();
        sums.values += weight * value;
        sums.weights += weight;
    }

    /// Questions with rows.
    #[must_use]
    pub fn questions(&self) -> usize {
        self.sums.len()
    }

    /// Sum of all weights.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.sums.values().map(|sums| sums.weights).sum()
    }

    /// The weighted mean over all rows; `None` without weight.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let weight = self.weight();
        (weight > 0.0).then(|| self.sums.values().map(|sums| sums.values).sum::<f64>() / weight)
    }

    /// What each question adds to the mean's error, which sums to 0.
    fn influences(&self) -> Option<BTreeMap<&Q, f64>> {
        let (mean, weight) = (self.mean()?, self.weight());
        let influence = |sums: &Sums| (sums.values - mean * sums.weights) / weight;
        Some(self.sums.iter().map(|(question, sums)| (question, influence(sums))).collect())
    }

    /// The mean's standard error; `None` for fewer than two questions.
    #[must_use]
    pub fn standard_error(&self) -> Option<f64> {
        standard_error(self.influences()?.into_values())
    }

    /// The mean's 95% interval, clipped to the scale.
    #[must_use]
    pub fn interval(&self, scale: RangeInclusive<f64>) -> Option<[f64; 2]> {
        let (mean, se) = (self.mean()?, self.standard_error()?);
        let clip = |value: f64| value.clamp(*scale.start(), *scale.end());
        Some([clip(mean - Z975 * se), clip(mean + Z975 * se)])
    }

    /// The mean's 95% interval by drawing as many questions with replacement, [`BOOTSTRAP_ROUNDS`] times under a fixed
    /// seed: percentiles 2.5 and 97.5 of the means. `None` for fewer than two questions.
    #[must_use]
    pub fn bootstrap(&self) -> Option<[f64; 2]> {
        let questions: Vec<Sums> = self.sums.values().copied().collect();
        if questions.len() < 2 || self.weight() <= 0.0 {
            return None;
        }
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let mut means = Vec::with_capacity(BOOTSTRAP_ROUNDS);
        for _ in 0..BOOTSTRAP_ROUNDS {
            let mut drawn = Sums::default();
            for _ in 0..questions.len() {
                let Sums { values, weights } = questions[random.random_range(0..questions.len())];
                drawn.values += values;
                drawn.weights += weights;
            }
            // A draw of questions none of which has weight has no mean.
            if drawn.weights > 0.0 {
                means.push(drawn.values / drawn.weights);
            }
        }
        Some([percentile(&means, 0.025)?, percentile(&means, 0.975)?])
    }

    /// Compares two models on the questions that both have; `None` if there is none.
    #[must_use]
    pub fn paired(&self, other: &Self) -> Option<Paired> {
        let shared = |one: &Self, two: &Self| Self {
            sums: (one.sums.iter())
                .filter(|(question, _)| two.sums.contains_key(question))
                .map(|(question, sums)| (question.clone(), *sums))
                .collect(),
        };
        let (one, two) = (shared(self, other), shared(other, self));
        let mean = one.mean()? - two.mean()?;
        let (mine, theirs) = (one.influences()?, two.influences()?);
        let se = standard_error(mine.values().zip(theirs.values()).map(|(mine, theirs)| mine - theirs));
        Some(Paired {
            questions: one.questions(),
            mean,
            se,
            ci95: se.map(|se| [mean - Z975 * se, mean + Z975 * se]),
            smallest_detectable: se.map(|se| 2.8 * se),
        })
    }
}

/// sqrt(n/(n − 1)·Σu²).
fn standard_error(influences: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut n, mut squares) = (0, 0.0);
    for influence in influences {
        n += 1;
        squares += influence * influence;
    }
    (n > 1).then(|| (n as f64 / (n - 1) as f64 * squares).sqrt())
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn equal_weights_give_the_standard_error_of_question_means() {
        let mut by_question = ByQuestion::new();
        for (question, values) in [[1.0, 3.0], [4.0, 6.0], [8.0, 8.0]].into_iter().enumerate() {
            values.into_iter().for_each(|value| by_question.add(question, value, 1.0));
        }
        // Question means 2, 5, 8: mean 5, sample variance 9, standard error sqrt(9/3).
        assert_eq!((by_question.mean(), by_question.questions(), by_question.weight()), (Some(5.0), 3, 6.0));
        assert!((by_question.standard_error().unwrap() - 3.0f64.sqrt()).abs() < 1e-12);
        assert_eq!(by_question.interval(2.0..=6.0), Some([2.0, 6.0]));
    }

    #[test]
    fn too_few_questions_have_no_error() {
        let mut by_question = ByQuestion::new();
        assert_eq!((by_question.mean(), by_question.standard_error()), (None, None));
        by_question.add("q", 7.0, 1.0);
        assert_eq!((by_question.mean(), by_question.standard_error()), (Some(7.0), None));
    }

    #[test]
    fn only_shared_questions_are_compared() {
        let (mut one, mut two) = (ByQuestion::new(), ByQuestion::new());
        for (question, a, b) in [(1, 5.0, 3.0), (2, 6.0, 5.0), (3, 9.0, 3.0)] {
            one.add(question, a, 1.0);
            two.add(question, b, 1.0);
        }
        two.add(4, 10.0, 1.0);
        let paired = one.paired(&two).unwrap();
        // Differences 2, 1, 6: mean 3, sample variance 7.
        assert_eq!(paired.questions, 3);
        assert!((paired.mean - 3.0).abs() < 1e-12);
        assert!((paired.se.unwrap() - (7.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!(paired.is_distinguishable());
        assert_eq!(one.paired(&ByQuestion::new()), None);
    }

    #[test]
    fn intervals_cover_as_they_say() {
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let (runs, mut held) = (2000, 0);
        for _ in 0..runs {
            let mut by_question = ByQuestion::new();
            for question in 0..500 {
                // The second smallest of four uniform draws has the distribution Beta(2, 3), whose mean is 0.4.
                let mut draws: [f64; 4] = random.random();
                draws.sort_by(f64::total_cmp);
                for _ in 0..2 {
                    let won = random.random_bool(draws[1]);
                    let weight = if random.random_bool(1.0 / 3.0) { 3.0 } else { 1.0 };
                    by_question.add(question, if won { 100.0 } else { 0.0 }, weight);
                }
            }
            let [low, high] = by_question.interval(0.0..=100.0).unwrap();
            held += usize::from(low <= 40.0 && 40.0 <= high);
        }
        let share = held as f64 / runs as f64;
        assert!((0.93..=0.97).contains(&share), "{share}");
    }

    #[test]
    fn the_bootstrap_is_near_the_interval_where_means_are_normal() {
        let mut ratings = ByQuestion::new();
        for question in 0..200 {
            ratings.add(question, f64::from((question * 7919) % 10), 1.0);
        }
        let ([low, high], drawn) = (ratings.interval(0.0..=10.0).unwrap(), ratings.bootstrap().unwrap());
        assert!((drawn[0] - low).abs() < 0.03 && (drawn[1] - high).abs() < 0.03, "{drawn:?} {low} {high}");
        assert_eq!(ratings.bootstrap(), Some(drawn));
        assert_eq!(ByQuestion::<u8>::new().bootstrap(), None);
    }
}
