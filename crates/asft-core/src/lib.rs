//! Preference objectives: from the log-probs of an answer pair to loss, derivatives and metrics.
//!
//! A pair enters as a handful of scalars ([`PairScores`]): for each answer the sum `s` of its token log-probs and
//! their number `T`. An [`Objective`] gives the loss and its derivatives by the two sums, in `f64` on the host, in
//! forms that stay exact where a probability is 1 or vanishes ([`numerics`]). A derivative by a sum is the weight of
//! each token's log-prob in the backward pass, so a training engine needs no autodiff through the loss;
//! [`mod@tensor`] wraps the same numbers for any Burn training loop. The crate knows no files, models or tokenizers.
//!
//! # Objectives
//!
//! `l = s/T`; `p = e^l`, `q = 1 - p`; `o = log(p/q)`; `sp(x) = log(1 + e^x)`; index `w` chosen, `l` rejected;
//! ν = `nll_weight`, β = `beta`, τ = `temperature`, ε = `label_smoothing`, ρ = `gamma_beta_ratio`. The NLL `-l_w` is
//! subject to [`NllScope`] and [`NllReduction`]. With the reference model's sums `ref`: `r = s - ref` and
//! `d = r_w/T_w - r_l/T_l`. `S(x) = (1-ε)·sp(-x) + ε·sp(x)`.
//!
//! | `[objective.NAME]` | loss of a pair | source |
//! |---|---|---|
//! | `asft` ([`Asft`]) | `-ν·l_w + β·[sp(-τ·o_w) + sp(τ·o_l)]`; at τ = 1 `-(ν+β)·l_w - β·log(1-p_l)` | arXiv 2409.10571 Eq 13–14, App. B; τ from arXiv 2502.01237 |
//! | `sft` ([`Sft`]) | `-l_w` | arXiv 2409.10571 §3.3 |
//! | `orpo` ([`Orpo`]) | `-l_w + β·sp(-(o_w - o_l))` | arXiv 2403.07691 |
//! | `simpo` ([`Simpo`]) | `S(β·(l_w - l_l - ρ)) - ν·l_w` | arXiv 2405.14734 |
//! | `cpo` ([`Cpo`]) | `S(β·(s_w - s_l)) - ν·l_w` | arXiv 2401.08417 |
//! | `slic` ([`Slic`]) | `max(0, 1 - β·(s_w - s_l)) - ν·l_w` | arXiv 2305.10425 as TRL's CPO `hinge` |
//!
//! With a frozen reference model, all of them with `-ν·l_w` (ν = 0 unless set):
//!
//! | `[objective.NAME]` | loss of a pair | source |
//! |---|---|---|
//! | `dpo` ([`Dpo`]) | `S(β·(r_w - r_l))` | arXiv 2305.18290 |
//! | `robust` ([`Robust`]) | `[(1-ε)·sp(-x) - ε·sp(x)]/(1-2ε)`, `x = β·(r_w - r_l)` | arXiv 2403.00409 |
//! | `hinge` ([`Hinge`]) | `max(0, 1 - β·(r_w - r_l))` | arXiv 2309.06657 |
//! | `ipo` ([`Ipo`]) | `(d - 1/(2β))²` | arXiv 2310.12036, per token as in TRL |
//! | `sigmoid_norm` ([`SigmoidNorm`]) | `sp(-β·d)` | arXiv 2411.15124 |
//! | `nca` ([`Nca`]) | `sp(-β·r_w) + ½·sp(β·r_w) + ½·sp(β·r_l)` | arXiv 2402.05369 |
//! | `bco` ([`Bco`]) | `sp(δ - β·r_w) + sp(β·r_l - δ)` | arXiv 2404.04656, δ given |
//! | `kto` ([`Kto`]) | `λ_w·σ(β·(z - r_w)) + λ_l·σ(β·(r_l - z))` | arXiv 2402.01306, z given |
//! | `apo_down` ([`ApoDown`]) | `σ(β·r_w) + σ(β·(r_l - r_w))` | arXiv 2408.06266 |
//!
//! ASFT's probability is length-normalised. The paper does not say so, but with sums the rejected term of a
//! 50-token answer has weight 1e-22 and the objective is SFT.
//!
//! ```
//! use asft_core::{AnswerScore, Objective, PairScores};
//!
//! let objective = Objective::by_name("asft").unwrap();
//! let pair = PairScores::new(AnswerScore::new(-96.0, 96), AnswerScore::new(-121.0, 110));
//! let step = objective.evaluate_step(&[pair])?;
//! assert!((step[0].loss - 1.140477197392829).abs() < 1e-12);
//! assert!((step[0].grad.chosen + 1.1 / 96.0).abs() < 1e-15);
//! # Ok::<(), asft_core::PairError>(())
//! ```
//!
//! # Another ASFT
//!
//! "ASFT" also names **Anchored** SFT (arXiv 2509.23753): a re-weighted NLL with a KL anchor, on demonstrations, no
//! pairs. LLaMA-Factory's `use_asft_loss` is that one. Here it is **Aligned** SFT through absolute likelihood.

mod error;
mod metrics;
pub mod numerics;
mod objective;
mod plane;
mod report;
mod score;
mod step;
mod sum;
pub mod tensor;

pub use error::{ConfigError, ObjectiveError, PairError};
pub use metrics::{Metrics, MetricsSum};
// Every objective's settings, which the list of objectives names.
pub use objective::*;
pub use plane::{Flow, PlanePoint, Trajectory};
pub use report::{GuardReport, PairReport, StepReport};
pub use score::{AnswerScore, PairScores, PromptScore, ReferenceSums, Side};
pub use step::{KnownGrad, PairGrad, PairLoss, StepNorm};
pub use sum::ExactSum;
