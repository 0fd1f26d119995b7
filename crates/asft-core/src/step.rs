//! An objective over an optimizer step: loss, derivatives and metrics of each pair.
//!
//! The step's loss is the mean over **all** its pairs: all micro-batches, all devices, and the true number in a
//! short last step. What divides it ([`StepNorm`]) is known before the first forward pass, so a pair's coefficients
//! are the same bits in whichever micro-batch it lands. A mean of micro-batch means would not be.

use serde::{Deserialize, Serialize};

use crate::error::{ObjectiveError, PairError};
use crate::metrics::Metrics;
use crate::objective::nll::NllTerm;
use crate::objective::{Align, NllReduction, NllScope, Objective};
use crate::score::{Answer, AnswerScore, PairScores, Side};

/// What the loss of an optimizer step is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepNorm {
    /// N: pairs of the whole step.
    pub pairs: usize,
    /// Tokens the NLL covers over the whole step: the sum of [`Objective::nll_tokens`]. Only read with
    /// `nll_reduction = "token"`.
    pub nll_tokens: usize,
}

/// Derivatives of the **step's** loss by a pair's sums of log-probs, 1/N included: also the weight with which the
/// log-prob of each of that part's tokens enters the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairGrad {
    /// By the chosen answer's sum.
    #[serde(rename = "grad_chosen")]
    pub chosen: f64,
    /// By the rejected answer's sum; 0 where there is none.
    #[serde(rename = "grad_rejected")]
    pub rejected: f64,
    /// By the prompt's sum on the chosen row, with `nll_scope = "prompt_response"`.
    #[serde(rename = "grad_prompt", skip_serializing_if = "Option::is_none")]
    pub prompt: Option<f64>,
}

/// The derivatives of a pair that are known before any forward pass, see [`Objective::known_grad`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct KnownGrad {
    /// [`PairGrad::chosen`].
    pub chosen: Option<f64>,
    /// [`PairGrad::prompt`].
    pub prompt: Option<f64>,
}

/// One pair's part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairLoss {
    /// Contribution to the step's loss, already divided: these add up to it.
    pub loss: f64,
    /// Derivatives of the step's loss.
    #[serde(flatten)]
    pub grad: PairGrad,
    /// Metrics of the pair by itself, not divided.
    pub metrics: Metrics,
}

impl Objective {
    /// Number of tokens a pair adds to [`StepNorm::nll_tokens`]; `prompt` counts all prompt tokens but the first.
    #[must_use]
    pub fn nll_tokens(&self, chosen: usize, prompt: Option<usize>) -> usize {
        self.formula().nll().tokens(chosen, prompt)
    }

    /// The norm of a step that consists of these pairs.
    #[must_use]
    pub fn norm<'a>(&self, pairs: impl IntoIterator<Item = &'a PairScores>) -> StepNorm {
        pairs.into_iter().fold(StepNorm { pairs: 0, nll_tokens: 0 }, |norm, pair| {
            let tokens = self.nll_tokens(pair.chosen.tokens, pair.prompt.map(|prompt| prompt.tokens));
            StepNorm { pairs: norm.pairs + 1, nll_tokens: norm.nll_tokens.saturating_add(tokens) }
        })
    }

    /// Loss, derivatives and metrics of one pair of a step.
    ///
    /// # Errors
    /// A pair without the answer, prompt or reference the objective needs, with an answer of no tokens or a sum
    /// that is not finite, and an empty step. The result holds no NaN and no infinity.
    pub fn evaluate(&self, pair: &PairScores, norm: &StepNorm) -> Result<PairLoss, ObjectiveError> {
        let result = self.evaluate_unchecked(pair, norm)?;
        let prompt = result.grad.prompt.unwrap_or(0.0);
        for (what, value) in [
            ("loss", result.metrics.loss),
            ("grad_chosen", result.grad.chosen),
            ("grad_rejected", result.grad.rejected),
            ("grad_prompt", prompt),
        ] {
            if !value.is_finite() {
                return Err(ObjectiveError::Overflow { what, value });
            }
        }
        Ok(result)
    }

    /// [`Objective::evaluate`] without the check of its result, which is infinite in the limits that an unguarded
    /// objective may reach.
    pub(crate) fn evaluate_unchecked(
        &self,
        pair: &PairScores,
        norm: &StepNorm,
    ) -> Result<PairLoss, ObjectiveError> {
        if norm.pairs == 0 {
            return Err(ObjectiveError::EmptyStep { what: "pairs" });
        }
        let formula = self.formula();
        let chosen = self.checked(&pair.chosen, Side::Chosen)?;
        let rejected =
            pair.rejected.as_ref().map(|answer| self.checked(answer, Side::Rejected)).transpose()?;
        if let Some(prompt) = &pair.prompt {
            prompt.check()?;
        }
        let align = match &rejected {
            Some(rejected) => formula.align(&chosen, rejected),
            None if formula.needs_rejected() => {
                return Err(ObjectiveError::MissingRejected { objective: self.name() });
            }
            None => Align::default(),
        };
        let (nll, weight, pairs) = (formula.nll(), formula.align_weight(), norm.pairs as f64);
        let term = nll.evaluate(self.name(), &chosen, pair.prompt.as_ref(), norm)?;
        let NllTerm { value, slope } = term.unwrap_or(NllTerm { value: 0.0, slope: 0.0 });
        let loss = weighted(nll.weight, value) + weighted(weight, align.value);
        let nll_slope = weighted(nll.weight, slope);
        let covers_prompt = nll.scope == NllScope::PromptResponse && pair.prompt.is_some();
        Ok(PairLoss {
            loss: loss / pairs,
            grad: PairGrad {
                chosen: nll_slope + weighted(weight, align.d_chosen) / pairs,
                rejected: weighted(weight, align.d_rejected) / pairs,
                prompt: covers_prompt.then_some(nll_slope),
            },
            metrics: Metrics::of_pair(
                formula,
                &chosen,
                rejected.as_ref(),
                loss,
                term.map(|nll| nll.value),
                align.value,
            ),
        })
    }

    /// Evaluates a whole step.
    ///
    /// # Errors
    /// The first pair that [`Objective::evaluate`] refuses, by its index.
    pub fn evaluate_step(&self, pairs: &[PairScores]) -> Result<Vec<PairLoss>, PairError> {
        let norm = self.norm(pairs);
        let evaluate =
            |(pair, scores)| self.evaluate(scores, &norm).map_err(|source| PairError { pair, source });
        pairs.iter().enumerate().map(evaluate).collect()
    }

    /// What of a pair's [`PairGrad`] follows from its token counts alone, bit for bit: the prompt's part always, the
    /// chosen answer's for `asft` at τ = 1 and `sft`. It lets the engine take those gradients in the pass that
    /// scores. `prompt` counts all prompt tokens but the first, where the prompt is scored.
    #[must_use]
    pub fn known_grad(&self, chosen: usize, prompt: Option<usize>, norm: &StepNorm) -> KnownGrad {
        let formula = self.formula();
        let nll = formula.nll();
        let counted = chosen > 0
            && norm.pairs > 0
            && (nll.reduction == NllReduction::Pair || norm.nll_tokens > 0)
            && (nll.scope == NllScope::Response || nll.weight == 0.0 || prompt.is_some());
        if !counted {
            return KnownGrad::default();
        }
        let nll_slope = weighted(nll.weight, nll.slope(nll.tokens(chosen, prompt) as f64, norm));
        let align_slope = |slope| weighted(formula.align_weight(), slope / chosen as f64) / norm.pairs as f64;
        KnownGrad {
            chosen: formula.constant_chosen_slope().map(|slope| nll_slope + align_slope(slope)),
            prompt: (nll.scope == NllScope::PromptResponse && prompt.is_some()).then_some(nll_slope),
        }
    }

    fn checked(&self, answer: &AnswerScore, side: Side) -> Result<Answer, ObjectiveError> {
        if self.formula().needs_reference() && answer.ref_logp_sum.is_none() {
            return Err(ObjectiveError::MissingReference { objective: self.name(), side });
        }
        Answer::check(answer, side)
    }
}

/// `weight · term`, and 0 for weight 0 even where the term is infinite.
fn weighted(weight: f64, term: f64) -> f64 {
    if weight == 0.0 { 0.0 } else { weight * term }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Asft, NllScope, Orpo, PromptScore, Sft};

    fn pair() -> PairScores {
        PairScores::new(AnswerScore::new(-4.0, 2), AnswerScore::new(-9.0, 3))
    }

    #[test]
    fn unusable_pairs_are_refused_in_words() {
        let asft = Objective::from(Asft::default());
        let orpo_prompt = Objective::from(Orpo { nll_scope: NllScope::PromptResponse, ..Orpo::default() });
        let sum = |logp_sum| AnswerScore { logp_sum, ..pair().chosen };
        let cases = [
            (&asft, PairScores { chosen: AnswerScore::new(0.0, 0), ..pair() }, "chosen.tokens is 0"),
            (
                &asft,
                PairScores { rejected: Some(AnswerScore::new(-1.0, 0)), ..pair() },
                "rejected.tokens is 0",
            ),
            (&asft, PairScores { chosen: sum(f64::NAN), ..pair() }, "chosen.logp_sum is NaN"),
            (
                &asft,
                PairScores { rejected: Some(sum(f64::NEG_INFINITY)), ..pair() },
                "rejected.logp_sum is -inf",
            ),
            (
                &asft,
                PairScores {
                    chosen: AnswerScore { ref_logp_sum: Some(f64::NAN), ..pair().chosen },
                    ..pair()
                },
                "chosen.ref_logp_sum is NaN",
            ),
            (&asft, PairScores { rejected: None, ..pair() }, "objective `asft` needs a rejected answer"),
            (&orpo_prompt, pair(), "objective.orpo.nll_scope is \"prompt_response\""),
            (
                &orpo_prompt,
                PairScores { prompt: Some(PromptScore { logp_sum: f64::INFINITY, tokens: 3 }), ..pair() },
                "prompt.logp_sum is inf",
            ),
            (
                &orpo_prompt,
                PairScores { prompt: Some(PromptScore { logp_sum: -1.0, tokens: 0 }), ..pair() },
                "prompt.tokens is 0",
            ),
            (&asft, PairScores { chosen: AnswerScore::new(-1.7e308, 1), ..pair() }, "loss overflows to inf"),
        ];
        for (objective, bad, message) in cases {
            let error = objective.evaluate_step(&[pair_with_prompt(), bad]).unwrap_err();
            assert_eq!(error.pair, 1);
            assert!(error.to_string().starts_with(&format!("pair 1: {message}")), "{error}");
        }
        let empty = asft.evaluate(&pair(), &StepNorm { pairs: 0, nll_tokens: 0 }).unwrap_err();
        assert_eq!(empty, ObjectiveError::EmptyStep { what: "pairs" });
        assert_eq!(asft.evaluate_step(&[]), Ok(vec![]));
    }

    fn pair_with_prompt() -> PairScores {
        PairScores { prompt: Some(PromptScore { logp_sum: -5.0, tokens: 4 }), ..pair() }
    }

    #[test]
    fn a_demonstration_has_the_loss_of_its_pair_under_sft() {
        let sft = Objective::from(Sft::default());
        let norm = StepNorm { pairs: 4, nll_tokens: 9 };
        let with = sft.evaluate(&pair(), &norm).unwrap();
        let without = sft.evaluate(&PairScores { rejected: None, ..pair() }, &norm).unwrap();
        assert_eq!((with.loss, with.grad), (without.loss, without.grad));
        assert_eq!(with.loss, 2.0 / 4.0);
        assert_eq!(with.grad, PairGrad { chosen: -1.0 / 8.0, rejected: 0.0, prompt: None });
    }

    #[test]
    fn prompt_of_one_token_has_nothing_to_predict() {
        let sft = Objective::from(Sft { nll_scope: NllScope::PromptResponse, ..Sft::default() });
        let one_token = PairScores { prompt: Some(PromptScore { logp_sum: 0.0, tokens: 0 }), ..pair() };
        let loss = &sft.evaluate_step(&[one_token]).unwrap()[0];
        assert_eq!((loss.loss, loss.grad.prompt), (2.0, Some(-0.5)));
    }

    #[test]
    fn nll_metric_is_absent_only_where_it_cannot_be_known() {
        let align_only = Asft { nll_weight: 0.0, nll_scope: NllScope::PromptResponse, ..Asft::default() };
        let objective = Objective::from(align_only);
        let nll = |pair| objective.evaluate_step(&[pair]).unwrap()[0].metrics.nll;
        assert_eq!(nll(pair()), None);
        assert_eq!(nll(pair_with_prompt()), Some(9.0 / 6.0));
    }

    #[test]
    fn a_known_gradient_is_the_one_evaluated() {
        let (asft, sft) = (Asft::default(), Sft::default());
        let (token, both) = (NllReduction::Token, NllScope::PromptResponse);
        let objectives: [(Objective, bool); 11] = [
            (asft.clone().into(), true),
            (Asft { nll_reduction: token, ..asft.clone() }.into(), true),
            (Asft { nll_weight: 0.0, nll_scope: both, beta: 0.3, ..asft.clone() }.into(), true),
            (Asft { nll_scope: both, ..asft.clone() }.into(), true),
            (Asft { nll_scope: both, nll_reduction: token, ..asft.clone() }.into(), true),
            (Asft { beta: 0.0, ..asft.clone() }.into(), true),
            (Asft { temperature: 0.5, ..asft.clone() }.into(), false),
            (sft.clone().into(), true),
            (Sft { nll_reduction: token, nll_scope: both }.into(), true),
            (Orpo::default().into(), false),
            (Orpo { nll_scope: both, ..Orpo::default() }.into(), false),
        ];
        for (objective, chosen_is_known) in objectives {
            for (tokens, pairs, nll_tokens) in [(1, 1, 1), (7, 3, 31), (1023, 5, 4099)] {
                let norm = StepNorm { pairs, nll_tokens };
                let scores = PairScores {
                    chosen: AnswerScore::new(-3.7 * tokens as f64, tokens),
                    ..pair_with_prompt()
                };
                let evaluated = objective.evaluate(&scores, &norm).unwrap().grad;
                let known = objective.known_grad(tokens, scores.prompt.map(|prompt| prompt.tokens), &norm);
                assert_eq!(known.chosen.is_some(), chosen_is_known, "{objective:?}");
                assert_eq!(
                    known.prompt.map(f64::to_bits),
                    evaluated.prompt.map(f64::to_bits),
                    "{objective:?}"
                );
                if let Some(known) = known.chosen {
                    assert_eq!(known.to_bits(), evaluated.chosen.to_bits(), "{objective:?} {norm:?}");
                }
            }
            let nothing = KnownGrad::default();
            assert_eq!(objective.known_grad(0, Some(3), &StepNorm { pairs: 1, nll_tokens: 1 }), nothing);
            assert_eq!(objective.known_grad(7, Some(3), &StepNorm { pairs: 0, nll_tokens: 1 }), nothing);
        }
        // A prompt that has to be scored and was not.
        let objective = Objective::from(Sft { nll_scope: both, ..sft });
        assert_eq!(
            objective.known_grad(7, None, &StepNorm { pairs: 1, nll_tokens: 7 }),
            KnownGrad::default()
        );
    }
}
