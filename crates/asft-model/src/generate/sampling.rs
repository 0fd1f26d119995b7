//! The next token from logits.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Below this temperature the likeliest token is taken.
const GREEDY: f64 = 1e-4;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; below 1e-4 the likeliest token is taken.
    pub temperature: f64,
    /// Only so many of the likeliest tokens, and those equally likely as the last of them; 0: all.
    pub top_k: usize,
    /// Only the smallest set of the likeliest tokens that has this much probability, at least one; 1: all.
    pub top_p: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token each time.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 };
}

/// Draws the tokens of one answer.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
}

impl Sampler {
    /// A sampler at the start of its answer.
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, random: ChaCha8Rng::seed_from_u64(sampling.seed) }
    }

    /// The next token; the filters come in the order temperature, top-k, top-p.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        if self.sampling.temperature < GREEDY {
            return likeliest(logits);
        }
        let candidates = distribution(logits, &self.sampling);
        let mut left = self.random.random::<f64>();
        for &(token, probability) in &candidates {
            left -= probability;
            if left < 0.0 {
                return token;
            }
        }
        // What rounding leaves over.
        candidates.last().expect("one token at least").0
    }
}

/// The first of the tokens with the greatest logit.
fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || logits[best].is_nan() {
            best = token;
        }
    }
    best as u32
}

/// Tokens that may be drawn with their probabilities, likeliest first.
fn distribution(logits: &[f32], sampling: &Sampling) -> Vec<(u32, f64)> {
    let mut tokens: Vec<(u32, f64)> = (0..).zip(logits.iter().map(|&logit| f64::from(logit))).collect();
    tokens.retain(|(_, logit)| !logit.is_nan());
    if sampling.top_k > 0 && sampling.top_k < tokens.len() {
        let limit = tokens.select_nth_unstable_by(sampling.top_k - 1, |a, b| b.1.total_cmp(&a.1)).1.1;
        tokens.retain(|(_, logit)| *logit >= limit);
    }
    tokens.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let greatest = tokens[0].1;
    let mut sum = 0.0;
    for (_, weight) in &mut tokens {
        *weight = ((*weight - greatest) / sampling.temperature).exp();
        sum += *weight;
    }
    let mut kept = 0.0;
    let mut end = tokens.len();
    for (index, (_, weight)) in tokens.iter().enumerate() {
        kept += *weight;
        if kept >= sampling.top_p * sum {
            end = index + 1;
            break;
        }
    }
    tokens.truncate(end);
    tokens.iter_mut().for_each(|(_, weight)| *weight /= kept);
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities ½, ¼, ⅛, ⅛.
    fn logits() -> Vec<f32> {
        [1.0f32, 4.0, 2.0, 1.0].iter().map(|weight| weight.ln()).collect()
    }

    fn drawn(sampling: Sampling) -> Vec<(u32, f64)> {
        distribution(&logits(), &sampling)
    }

    #[test]
    fn filters_keep_what_they_should() {
        let all = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0 };
        let close = |drawn: Vec<(u32, f64)>, expected: &[(u32, f64)]| {
            assert_eq!(drawn.len(), expected.len(), "{drawn:?}");
            for (got, want) in drawn.iter().zip(expected) {
                assert!(got.0 == want.0 && (got.1 - want.1).abs() < 1e-6, "{drawn:?}");
            }
        };
        close(drawn(all), &[(1, 0.5), (2, 0.25), (0, 0.125), (3, 0.125)]);
        close(drawn(Sampling { top_k: 2, ..all }), &[(1, 2.0 / 3.0), (2, 1.0 / 3.0)]);
        // Tokens as likely as the third stay.
        assert_eq!(drawn(Sampling { top_k: 3, ..all }).len(), 4);
        close(drawn(Sampling { top_p: 0.5, ..all }), &[(1, 1.0)]);
        close(drawn(Sampling { top_p: 0.51, ..all }), &[(1, 2.0 / 3.0), (2, 1.0 / 3.0)]);
        close(drawn(Sampling { top_p: 1e-9, ..all }), &[(1, 1.0)]);
        // Half the temperature squares the weights: 16, 4, 1, 1.
        assert!((drawn(Sampling { temperature: 0.5, ..all })[0].1 - 16.0 / 22.0).abs() < 1e-6);
    }

    #[test]
    fn draws_follow_the_distribution_and_the_seed() {
        let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 3 };
        let draw = |seed: u64| {
            let mut sampler = Sampler::new(Sampling { seed, ..sampling });
            (0..20_000).map(|_| sampler.next(&logits())).collect::<Vec<_>>()
        };
        let tokens = draw(3);
        for (token, expected) in [(0, 0.125), (1, 0.5), (2, 0.25), (3, 0.125)] {
            let share = tokens.iter().filter(|&&other| other == token).count() as f64 / 20_000.0;
            assert!((share - expected).abs() < 0.015, "{token}: {share}");
        }
        assert_eq!(tokens, draw(3));
        assert_ne!(tokens, draw(4));
    }

    #[test]
    fn greedy_takes_the_first_of_the_greatest() {
        let mut sampler = Sampler::new(Sampling::GREEDY);
        assert_eq!(sampler.next(&[0.0, 2.0, 2.0]), 1);
        assert_eq!(sampler.next(&[f32::NAN, -1.0, f32::NEG_INFINITY]), 1);
    }
}
