//! What is logged of a pair, and means over pairs.

use serde::{Deserialize, Serialize};

use crate::numerics::guarded_log_odds;
use crate::objective::Formula;
use crate::score::Answer;
use crate::sum::ExactSum;

/// Metrics of one pair, or their means over the pairs of a step or of an evaluation set.
///
/// Both absolute log-probs are there beside their difference: a chosen log-prob that falls together with the
/// rejected one shows only in them. What concerns the rejected answer is absent where a pair has none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// The objective: `nll_weight · nll + align_weight · align`.
    pub loss: f64,
    /// The NLL as switched, without its weight; absent if it covers a prompt that was not scored (then its
    /// weight is 0). With token reduction a pair's share, so that the mean is the step's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nll: Option<f64>,
    /// The preference part without its weight; 0 for `sft`.
    pub align: f64,
    /// Log-prob per token of the chosen answer.
    pub logps_chosen: f64,
    /// Log-prob per token of the rejected answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logps_rejected: Option<f64>,
    /// Difference of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// 1 if the chosen log-prob per token is strictly greater.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Sum of log-probs of the chosen answer.
    pub logps_sum_chosen: f64,
    /// Sum of log-probs of the rejected answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logps_sum_rejected: Option<f64>,
    /// Implicit reward of the chosen answer; its form is the objective's.
    pub rewards_chosen: f64,
    /// Implicit reward of the rejected answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewards_rejected: Option<f64>,
    /// Difference of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewards_margin: Option<f64>,
    /// 1 if the chosen reward before scaling is strictly greater.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewards_accuracy: Option<f64>,
    /// Guarded log-odds of the chosen answer's probability per token.
    pub log_odds_chosen: f64,
    /// The same of the rejected answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_odds_rejected: Option<f64>,
    /// Difference of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_odds_margin: Option<f64>,
}

impl Metrics {
    /// Every metric's key, in the order of [`Metrics::values`].
    pub const KEYS: [&'static str; 16] = [
        "loss",
        "nll",
        "align",
        "logps_chosen",
        "logps_rejected",
        "margin",
        "accuracy",
        "logps_sum_chosen",
        "logps_sum_rejected",
        "rewards_chosen",
        "rewards_rejected",
        "rewards_margin",
        "rewards_accuracy",
        "log_odds_chosen",
        "log_odds_rejected",
        "log_odds_margin",
    ];

    /// The values, in the order of [`Metrics::KEYS`].
    #[must_use]
    pub fn values(&self) -> [Option<f64>; 16] {
        [
            Some(self.loss),
            self.nll,
            Some(self.align),
            Some(self.logps_chosen),
            self.logps_rejected,
            self.margin,
            self.accuracy,
            Some(self.logps_sum_chosen),
            self.logps_sum_rejected,
            Some(self.rewards_chosen),
            self.rewards_rejected,
            self.rewards_margin,
            self.rewards_accuracy,
            Some(self.log_odds_chosen),
            self.log_odds_rejected,
            self.log_odds_margin,
        ]
    }

    /// The inverse of [`Metrics::values`]; `None` if one that every pair has is missing.
    fn from_values(values: [Option<f64>; 16]) -> Option<Self> {
        Some(Self {
            loss: values[0]?,
            nll: values[1],
            align: values[2]?,
            logps_chosen: values[3]?,
            logps_rejected: values[4],
            margin: values[5],
            accuracy: values[6],
            logps_sum_chosen: values[7]?,
            logps_sum_rejected: values[8],
            rewards_chosen: values[9]?,
            rewards_rejected: values[10],
            rewards_margin: values[11],
            rewards_accuracy: values[12],
            log_odds_chosen: values[13]?,
            log_odds_rejected: values[14],
            log_odds_margin: values[15],
        })
    }

    /// Metrics of a pair whose loss, NLL and align term are known.
    pub(crate) fn of_pair(
        formula: &dyn Formula,
        chosen: &Answer,
        rejected: Option<&Answer>,
        loss: f64,
        nll: Option<f64>,
        align: f64,
    ) -> Self {
        let scale = formula.reward_scale();
        let log_odds = |answer: &Answer| guarded_log_odds(answer.nll(), formula.eps());
        let one_if = |greater: bool| if greater { 1.0 } else { 0.0 };
        Self {
            loss,
            nll,
            align,
            logps_chosen: chosen.mean(),
            logps_rejected: rejected.map(Answer::mean),
            margin: rejected.map(|rejected| chosen.mean() - rejected.mean()),
            accuracy: rejected.map(|rejected| one_if(chosen.mean() > rejected.mean())),
            logps_sum_chosen: chosen.sum,
            logps_sum_rejected: rejected.map(|rejected| rejected.sum),
            rewards_chosen: scale * formula.reward(chosen),
            rewards_rejected: rejected.map(|rejected| scale * formula.reward(rejected)),
            rewards_margin: rejected
                .map(|rejected| scale * (formula.reward(chosen) - formula.reward(rejected))),
            rewards_accuracy: rejected
                .map(|rejected| one_if(formula.reward(chosen) > formula.reward(rejected))),
            log_odds_chosen: log_odds(chosen),
            log_odds_rejected: rejected.map(log_odds),
            log_odds_margin: rejected.map(|rejected| log_odds(chosen) - log_odds(rejected)),
        }
    }
}

/// Sums of metrics, for means that do not depend on the order or the grouping of pairs, to the last bit.
///
/// A metric that a pair does not have is left out of that metric's mean.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricsSum {
    sums: [ExactSum; 16],
    counts: [usize; 16],
}

impl MetricsSum {
    /// Adds one pair's metrics.
    pub fn add(&mut self, metrics: &Metrics) {
        for (i, value) in metrics.values().into_iter().enumerate() {
            if let Some(value) = value {
                self.sums[i].add(value);
                self.counts[i] += 1;
            }
        }
    }

    /// Adds what another micro-batch or process gathered.
    pub fn merge(&mut self, other: &Self) {
        for i in 0..self.sums.len() {
            self.sums[i].merge(&other.sums[i]);
            self.counts[i] += other.counts[i];
        }
    }

    /// Number of pairs added.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.counts[0]
    }

    /// Means over the pairs; `None` before the first.
    #[must_use]
    pub fn mean(&self) -> Option<Metrics> {
        Metrics::from_values(std::array::from_fn(|i| {
            (self.counts[i] > 0).then(|| self.sums[i].value() / self.counts[i] as f64)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnswerScore, Objective, PairScores, StepNorm};

    fn metrics(pair: &PairScores) -> Metrics {
        let norm = StepNorm { pairs: 1, nll_tokens: pair.chosen.tokens };
        Objective::by_name("sft").unwrap().evaluate(pair, &norm).unwrap().metrics
    }

    #[test]
    fn keys_are_the_serialised_names_in_order() {
        let pair = PairScores::new(AnswerScore::new(-4.0, 2), AnswerScore::new(-9.0, 3));
        let json = serde_json::to_value(metrics(&pair)).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().iter().collect();
        let expected: Vec<_> = Metrics::KEYS.into_iter().zip(metrics(&pair).values()).collect();
        assert_eq!(keys.len(), expected.len());
        for (key, value) in expected {
            assert_eq!(json[key].as_f64(), value, "{key}");
        }
    }

    #[test]
    fn a_missing_answer_is_left_out_of_means() {
        let both = PairScores::new(AnswerScore::new(-4.0, 2), AnswerScore::new(-9.0, 3));
        let alone = PairScores { rejected: None, ..both };
        let mut sum = MetricsSum::default();
        assert_eq!(sum.mean(), None);
        sum.add(&metrics(&alone));
        assert_eq!(sum.mean().unwrap().margin, None);
        sum.add(&metrics(&both));
        let mean = sum.mean().unwrap();
        assert_eq!(
            (sum.pairs(), mean.logps_chosen, mean.logps_rejected, mean.margin),
            (2, -2.0, Some(-3.0), Some(1.0))
        );
        let alone = serde_json::to_value(metrics(&alone)).unwrap();
        assert!(alone.get("margin").is_none() && alone.get("rewards_rejected").is_none(), "{alone}");
    }

    #[test]
    fn a_tie_is_not_accurate() {
        let tie = metrics(&PairScores::new(AnswerScore::new(-4.0, 2), AnswerScore::new(-6.0, 3)));
        assert_eq!((tie.accuracy, tie.rewards_accuracy), (Some(0.0), Some(0.0)));
    }
}
