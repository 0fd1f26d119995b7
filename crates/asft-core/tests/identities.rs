//! Relations that hold between objectives, and between a loss and its derivatives, on random pairs.

use asft_core::numerics::{complement_nll, softplus};
use asft_core::{
    AnswerScore, Asft, Bco, Cpo, Dpo, NllReduction, NllScope, Objective, Orpo, PairLoss, PairScores,
    PromptScore, Robust, Sft, SigmoidNorm,
};
use proptest::prelude::*;

/// Reference sums lie some nats from the model's.
fn pair(a_w: f64, t_w: usize, a_l: f64, t_l: usize) -> PairScores {
    let answer = |a: f64, tokens: usize, ratio: f64| AnswerScore {
        ref_logp_sum: Some(-a * tokens as f64 - ratio),
        ..AnswerScore::new(-a * tokens as f64, tokens)
    };
    PairScores {
        chosen: answer(a_w, t_w, 1.75),
        rejected: Some(answer(a_l, t_l, -2.5)),
        prompt: Some(PromptScore { logp_sum: -17.5, tokens: 11 }),
    }
}

/// Per-token NLLs from the guard's start to answers the model finds absurd, evenly in magnitude.
fn nll() -> impl Strategy<Value = f64> {
    (1e-3f64.ln()..20f64.ln()).prop_map(f64::exp)
}

fn pairs() -> impl Strategy<Value = PairScores> {
    (nll(), 1usize..300, nll(), 1usize..300).prop_map(|(a_w, t_w, a_l, t_l)| pair(a_w, t_w, a_l, t_l))
}

/// Every objective; those whose settings have many forms with random ones.
fn objectives() -> impl Strategy<Value = Objective> {
    let switches = (
        prop_oneof![Just(NllScope::Response), Just(NllScope::PromptResponse)],
        prop_oneof![Just(NllReduction::Pair), Just(NllReduction::Token)],
    );
    let temperature = prop_oneof![Just(1.0), 0.05f64..8.0];
    let kind = prop::sample::select(Objective::NAMES);
    (kind, switches, 0.0f64..2.0, temperature, 0.0f64..2.0).prop_map(
        |(kind, (nll_scope, nll_reduction), beta, temperature, nll_weight)| match kind {
            "asft" => {
                Asft { beta, temperature, nll_weight, nll_scope, nll_reduction, ..Asft::default() }.into()
            }
            "orpo" => Orpo { beta, nll_scope, nll_reduction, ..Orpo::default() }.into(),
            "sft" => Sft { nll_scope, nll_reduction }.into(),
            "dpo" => {
                let label_smoothing = nll_weight / 5.0;
                Dpo { beta: beta + 0.01, label_smoothing, nll_weight, nll_scope, nll_reduction }.into()
            }
            name => Objective::by_name(name).unwrap(),
        },
    )
}

fn alone(objective: impl Into<Objective>, pair: &PairScores) -> PairLoss {
    objective.into().evaluate_step(&[*pair]).unwrap()[0]
}

fn close(got: f64, want: f64, relative: f64) -> Result<(), TestCaseError> {
    prop_assert!((got - want).abs() <= relative * want.abs().max(1e-300), "got {got:e}, want {want:e}");
    Ok(())
}

proptest! {
    /// -log σ(o_w) - log σ(-o_l) = -log p_w - log(1 - p_l): Eq 13 is two likelihoods.
    #[test]
    fn asft_aligns_likelihoods(a_w in nll(), a_l in nll()) {
        let asft = Asft { beta: 1.0, nll_weight: 0.0, ..Asft::default() };
        let closed = alone(asft, &pair(a_w, 1, a_l, 1)).loss;
        let odds = softplus(a_w - complement_nll(a_w)) + softplus(complement_nll(a_l) - a_l);
        close(closed, odds, 1e-12)?;
    }

    /// L_ORPO = L_ASFT + β·log(p_w·q_l + p_l·q_w), so ASFT is an upper bound of ORPO.
    #[test]
    fn asft_bounds_orpo(pair in pairs(), beta in 0.01f64..2.0) {
        let (asft, orpo) = (
            alone(Asft { beta, ..Asft::default() }, &pair).loss,
            alone(Orpo { beta, ..Orpo::default() }, &pair).loss,
        );
        let per_token = |answer: AnswerScore| -answer.logp_sum / answer.tokens as f64;
        let (a_w, a_l) = (per_token(pair.chosen), per_token(pair.rejected.unwrap()));
        let mixed = (-a_w).exp() * -(-a_l).exp_m1() + (-a_l).exp() * -(-a_w).exp_m1();
        close(orpo, asft + beta * mixed.ln(), 1e-12 * (1.0 + beta * (a_w + a_l) / orpo))?;
        prop_assert!(orpo <= asft);
    }

    #[test]
    fn without_weight_asft_and_orpo_are_sft(pair in pairs(), other in pairs()) {
        let sft = Objective::from(Sft::default()).evaluate_step(&[pair, other]).unwrap();
        for same in [Objective::from(Asft { beta: 0.0, ..Asft::default() }), Orpo { beta: 0.0, ..Orpo::default() }.into()] {
            for (got, want) in same.evaluate_step(&[pair, other]).unwrap().iter().zip(&sft) {
                prop_assert_eq!((got.loss, got.grad), (want.loss, want.grad));
            }
        }
    }

    #[test]
    fn the_reference_family_meets_where_it_should(pair in pairs(), beta in 0.01f64..2.0, delta in -2.0f64..2.0) {
        let dpo = alone(Dpo { beta, ..Dpo::default() }, &pair);
        let robust = alone(Robust { beta, label_smoothing: 0.0, ..Robust::default() }, &pair);
        close(robust.loss, dpo.loss, 1e-12)?;
        // Equal and opposite, and unmoved where model and reference gain the same.
        close(-dpo.grad.chosen, dpo.grad.rejected, 1e-12)?;
        let mut moved = pair;
        for answer in [&mut moved.chosen, moved.rejected.as_mut().unwrap()] {
            answer.logp_sum -= 8.0;
            answer.ref_logp_sum = answer.ref_logp_sum.map(|sum| sum - 8.0);
        }
        close(alone(Dpo { beta, ..Dpo::default() }, &moved).loss, dpo.loss, 1e-9)?;

        let mut free = pair;
        free.chosen.ref_logp_sum = Some(0.0);
        free.rejected.as_mut().unwrap().ref_logp_sum = Some(0.0);
        let cpo = alone(Cpo { beta, nll_weight: 0.0, ..Cpo::default() }, &free);
        let same = alone(Dpo { beta, ..Dpo::default() }, &free);
        prop_assert_eq!((cpo.loss, cpo.grad), (same.loss, same.grad));

        let mut short = pair;
        short.chosen.tokens = 1;
        short.rejected.as_mut().unwrap().tokens = 1;
        let normalised = alone(SigmoidNorm { beta, ..SigmoidNorm::default() }, &short);
        let plain = alone(Dpo { beta, ..Dpo::default() }, &short);
        prop_assert_eq!((normalised.loss, normalised.grad), (plain.loss, plain.grad));

        // bco's two answers do not meet: the one's gradient does not see the other.
        let bco = |pair: &PairScores| alone(Bco { beta, delta, ..Bco::default() }, pair).grad;
        let mut other = pair;
        other.rejected.as_mut().unwrap().logp_sum *= 1.5;
        prop_assert_eq!(bco(&pair).chosen, bco(&other).chosen);
    }

    /// Derivatives against central differences of the loss, for per-token NLLs of at least 0.01.
    #[test]
    fn derivatives_are_those_of_the_loss(
        objective in objectives(),
        a_w in 0.01f64..6.0, t_w in 1usize..50, a_l in 0.01f64..6.0, t_l in 1usize..50,
    ) {
        let pair = pair(a_w, t_w, a_l, t_l);
        let exact = alone(objective.clone(), &pair);
        type Sum = fn(&mut PairScores) -> &mut f64;
        let parts: [(Sum, f64); 3] = [
            (|pair| &mut pair.chosen.logp_sum, exact.grad.chosen),
            (|pair| &mut pair.rejected.as_mut().unwrap().logp_sum, exact.grad.rejected),
            (|pair| &mut pair.prompt.as_mut().unwrap().logp_sum, exact.grad.prompt.unwrap_or(0.0)),
        ];
        for (part, grad) in parts {
            let step = 1e-6 * part(&mut pair.clone()).abs().max(1.0);
            let at = |shift: f64| {
                let mut moved = pair;
                *part(&mut moved) += shift;
                alone(objective.clone(), &moved).loss
            };
            let difference = (at(step) - at(-step)) / (2.0 * step);
            let allowed = 1e-5 * grad.abs() + 1e-8 * exact.loss.abs().max(1.0);
            prop_assert!((difference - grad).abs() <= allowed, "{objective:?} {pair:?}: {difference:e} {grad:e}");
        }
    }

    /// The loss never rises in l_w and never falls in l_l, and stays finite, at any finite sum an f32 can hold.
    #[test]
    fn asft_is_monotonic_everywhere(
        temperature in prop_oneof![Just(1.0), 0.05f64..10.0],
        a in prop_oneof![-1e-6f64..1e-6, -1.0f64..1.0, -50.0f64..800.0, -3e38f64..3e38],
        further in prop_oneof![1e-9f64..1e-3, 1e-3f64..10.0, 1.0f64..1e38],
        other in -1.0f64..50.0,
    ) {
        let asft = Asft { temperature, ..Asft::default() };
        let loss = |a_w, a_l| alone(asft.clone(), &pair(a_w, 1, a_l, 1));
        let slack = |x: PairLoss| 1e-12 * (1.0 + x.loss.abs());
        let (near, far) = (loss(a, other), loss(a + further, other));
        prop_assert!(near.loss <= far.loss + slack(near), "chosen {a:e} {further:e}: {} {}", near.loss, far.loss);
        prop_assert!(near.grad.chosen <= 0.0 && near.grad.rejected >= 0.0);
        let (near, far) = (loss(other, a), loss(other, a + further));
        prop_assert!(near.loss >= far.loss - slack(near), "rejected {a:e} {further:e}: {} {}", near.loss, far.loss);
        prop_assert!(near.grad.chosen <= 0.0 && near.grad.rejected >= 0.0);
    }

    /// Nothing of a step depends on the order of its pairs or on which of them share a micro-batch.
    #[test]
    fn order_and_split_change_no_bit(
        objective in objectives(),
        pairs in prop::collection::vec(pairs(), 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let norm = objective.norm(&pairs);
        let step = objective.report_step(&pairs).unwrap();
        let cut = cut.index(pairs.len());
        let rotated: Vec<_> = pairs[cut..].iter().chain(&pairs[..cut]).copied().collect();
        let moved = objective.report_step(&rotated).unwrap();
        prop_assert_eq!((step.loss.to_bits(), step.metrics), (moved.loss.to_bits(), moved.metrics));
        for (i, pair) in pairs.iter().enumerate() {
            let single = objective.evaluate(pair, &norm).unwrap();
            let at = (i + pairs.len() - cut) % pairs.len();
            prop_assert_eq!(single.grad.chosen.to_bits(), moved.grad_chosen[at].to_bits());
            prop_assert_eq!(single.grad.rejected.to_bits(), moved.grad_rejected[at].to_bits());
        }
    }
}
