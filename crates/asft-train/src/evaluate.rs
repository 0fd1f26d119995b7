//! Held-out evaluation: the objective and its metrics without gradients, and each pair's scores.

use asft_core::{Metrics, MetricsSum, Objective, PairError, PairScores, StepNorm};
use asft_data::{EncodedPair, PairBatch, pack::micro_batches};
use asft_model::{Llama, LlamaBackend, LlamaConfig};
use serde::{Deserialize, Serialize};

use crate::engine;

/// Scores of one pair, as `asft score` writes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredPair {
    /// 0-based row in the file.
    pub index: usize,
    /// Prompt tokens.
    pub prompt_tokens: usize,
    /// Log-prob sums and token counts.
    #[serde(flatten)]
    pub scores: PairScores,
}

/// Scores `pairs` in micro-batches of at most `micro_batch_tokens`. `go_on` is told after each how many are
/// done; where it says no, the result is `None`.
pub fn score_pairs<B: LlamaBackend>(
    model: &Llama<B>,
    config: &LlamaConfig,
    pairs: &[&EncodedPair],
    prompts: bool,
    micro_batch_tokens: usize,
    device: &B::Device,
    mut go_on: impl FnMut(usize) -> bool,
) -> Option<Vec<ScoredPair>> {
    let lengths: Vec<usize> = pairs.iter().map(|pair| pair.tokens()).collect();
    let mut scored = Vec::with_capacity(pairs.len());
    for range in micro_batches(&lengths, micro_batch_tokens) {
        let pairs = &pairs[range];
        let scores = engine::score(model, config, &PairBatch::new(pairs.iter().copied()), prompts, device);
        scored.extend(pairs.iter().zip(scores).map(|(pair, scores)| ScoredPair {
            index: pair.origin.row - 1,
            prompt_tokens: pair.prompt.len(),
            scores,
        }));
        if !go_on(scored.len()) {
            return None;
        }
    }
    Some(scored)
}

/// Means of the objective's metrics over scored pairs; the index of the pair and the reason where one has no
/// loss.
pub fn mean_metrics(objective: &Objective, scored: &[ScoredPair]) -> Result<Metrics, PairError> {
    let norm = objective.norm(scored.iter().map(|pair| &pair.scores));
    Ok(sum_metrics(objective, scored, &norm)?.mean().expect("a set of pairs is never empty"))
}

/// Sums of the objective's metrics over some of the pairs that make up `norm`.
pub fn sum_metrics(
    objective: &Objective,
    scored: &[ScoredPair],
    norm: &StepNorm,
) -> Result<MetricsSum, PairError> {
    let mut sum = MetricsSum::default();
    for (pair, scored) in scored.iter().enumerate() {
        let loss = objective.evaluate(&scored.scores, norm).map_err(|source| PairError { pair, source })?;
        sum.add(&loss.metrics);
    }
    Ok(sum)
}

/// Change of the held-out margin between two evaluations of the same pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MarginChange {
    /// Pairs with a rejected answer in both evaluations.
    pub pairs: usize,
    /// Mean of (margin after − margin before), nats per token.
    pub mean: f64,
    /// Half width of the paired 95% interval, 1.96 standard errors of the mean.
    pub half_width: f64,
}

impl MarginChange {
    /// Compares pair by pair; `None` for fewer than two pairs.
    pub fn between(before: &[ScoredPair], after: &[ScoredPair]) -> Option<Self> {
        let margin = |pair: &ScoredPair| {
            let rejected = pair.scores.rejected.as_ref()?;
            let mean = |sum: f64, tokens: usize| sum / tokens as f64;
            let chosen = &pair.scores.chosen;
            Some(mean(chosen.logp_sum, chosen.tokens) - mean(rejected.logp_sum, rejected.tokens))
        };
        let changes: Vec<f64> = before
            .iter()
            .zip(after)
            .filter_map(|(before, after)| Some(margin(after)? - margin(before)?))
            .collect();
        let pairs = changes.len();
        if pairs < 2 {
            return None;
        }
        let mean = changes.iter().sum::<f64>() / pairs as f64;
        let variance = changes.iter().map(|change| (change - mean).powi(2)).sum::<f64>() / (pairs - 1) as f64;
        Some(Self { pairs, mean, half_width: 1.96 * (variance / pairs as f64).sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use asft_core::AnswerScore;

    use super::*;

    #[test]
    fn the_interval_is_the_paired_one() {
        let pair = |chosen: f64, rejected: f64| ScoredPair {
            index: 0,
            prompt_tokens: 1,
            scores: PairScores::new(AnswerScore::new(chosen, 2), AnswerScore::new(rejected, 4)),
        };
        let before = [pair(-2.0, -4.0), pair(-4.0, -4.0), pair(-2.0, -8.0)];
        let after = [pair(-2.0, -8.0), pair(-2.0, -4.0), pair(-2.0, -12.0)];
        // Margins 0, -1, 1 become 1, 0, 2: every pair gains exactly 1.
        let change = MarginChange::between(&before, &after).unwrap();
        assert_eq!(change, MarginChange { pairs: 3, mean: 1.0, half_width: 0.0 });
        // Gains 1, 1, 4: mean 2, standard deviation √3, half width 1.96.
        let after = [after[0].clone(), after[1].clone(), pair(-2.0, -24.0)];
        let change = MarginChange::between(&before, &after).unwrap();
        assert!((change.mean - 2.0).abs() < 1e-12 && (change.half_width - 1.96).abs() < 1e-12, "{change:?}");
        assert_eq!(MarginChange::between(&before[..1], &after), None);
    }
}
