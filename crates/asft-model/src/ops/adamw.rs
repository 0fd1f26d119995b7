//! The update of AdamW (arXiv 1711.05101).

use burn::tensor::{Tensor, backend::Backend};

/// Moments of one parameter, flat, f32.
#[derive(Clone, Debug)]
pub struct AdamWState<B: Backend> {
    /// Running mean of gradients.
    pub first: Tensor<B, 1>,
    /// Running mean of squared gradients.
    pub second: Tensor<B, 1>,
}

/// Numbers of one step, the same for all parameters but for the decay.
#[derive(Clone, Copy, Debug)]
pub struct AdamWStep {
    /// Decay rates of the two running means.
    pub betas: [f64; 2],
    /// `1 - βᵗ` of each, t counting from 1.
    pub corrections: [f64; 2],
    /// Added to the root.
    pub eps: f64,
    /// Learning rate.
    pub rate: f64,
    /// Decoupled weight decay.
    pub decay: f64,
    /// Factor of the gradient, such as clipping's.
    pub scale: f64,
}

/// `m ← β₁m + (1-β₁)g`, `v ← β₂v + (1-β₂)g²`, `w ← w - η λ w - η m̂ / (√v̂ + ε)` with m̂, v̂ divided by
/// `1 - βᵗ`; without a state, m and v are 0 before.
pub fn step<B: Backend>(
    value: Tensor<B, 1>,
    gradient: Tensor<B, 1>,
    state: Option<AdamWState<B>>,
    step: AdamWStep,
) -> (Tensor<B, 1>, AdamWState<B>) {
    let AdamWStep { betas: [beta_1, beta_2], corrections, eps, rate, decay, scale } = step;
    let (step_size, second_root) = (rate / corrections[0], corrections[1].sqrt());
    let gradient = gradient.mul_scalar(scale);
    let fresh = gradient.clone().mul_scalar(1.0 - beta_1);
    let fresh_square = (gradient.clone() * gradient).mul_scalar(1.0 - beta_2);
    let (first, second) = match state {
        Some(AdamWState { first, second }) => (
            first.mul_scalar(beta_1) + fresh,
            second.mul_scalar(beta_2) + fresh_square,
        ),
        None => (fresh, fresh_square),
    };
    let root = second.clone().sqrt().div_scalar(second_root).add_scalar(eps);
    let updated = value.mul_scalar(1.0 - rate * decay) - (first.clone() / root).mul_scalar(step_size);
    (updated, AdamWState { first, second })
}
