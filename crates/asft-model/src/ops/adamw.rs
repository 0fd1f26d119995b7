//! The update of AdamW (arXiv 1711.05101).

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use half::bf16;

use super::rounding::round_by_chance;

/// Moments of one parameter, flat, f32.
#[derive(Clone, Debug)]
pub struct AdamWState<B: Backend> {
    /// Running mean of gradients.
    pub first: Tensor<B, 1>,
    /// Running mean of squared gradients.
    pub second: Tensor<B, 1>,
}

/// Numbers of one step, the same for all parameters but for decay and seed.
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
    /// Seed of the chance by which parameters in bf16 are rounded; the same for no two steps or parameters.
    pub rounding_seed: u64,
}

/// `m ← β₁m + (1-β₁)g`, `v ← β₂v + (1-β₂)g²`, `w ← w - η λ w - η m̂ / (√v̂ + ε)` with m̂, v̂ divided by
/// `1 - βᵗ`; without a state, m and v are 0 before. All of it is f32 whatever the type of `value`.
pub fn step<B: Backend>(
    value: Tensor<B, 1>,
    gradient: Tensor<B, 1>,
    state: Option<AdamWState<B>>,
    step: AdamWStep,
) -> (Tensor<B, 1>, AdamWState<B>) {
    let AdamWStep { betas: [beta_1, beta_2], corrections, eps, rate, decay, scale, rounding_seed } = step;
    let dtype = value.dtype();
    let value = value.cast(DType::F32);
    let (step_size, second_root) = (rate / corrections[0], corrections[1].sqrt());
    let gradient = gradient.mul_scalar(scale);
    let fresh = gradient.clone().mul_scalar(1.0 - beta_1);
    let fresh_square = (gradient.clone() * gradient).mul_scalar(1.0 - beta_2);
    let (first, second) = match state {
        Some(AdamWState { first, second }) => {
            (first.mul_scalar(beta_1) + fresh, second.mul_scalar(beta_2) + fresh_square)
        }
        None => (fresh, fresh_square),
    };
    let root = second.clone().sqrt().div_scalar(second_root).add_scalar(eps);
    let updated = value.mul_scalar(1.0 - rate * decay) - (first.clone() / root).mul_scalar(step_size);
    let updated = match dtype {
        DType::BF16 => rounded(updated, rounding_seed),
        _ => updated,
    };
    (updated, AdamWState { first, second })
}

/// The values rounded by chance to bf16. Where they lie, no tensor operation can look at their bits, so the
/// host does it.
fn rounded<B: Backend>(values: Tensor<B, 1>, seed: u64) -> Tensor<B, 1> {
    let device = values.device();
    let values = values.into_data().into_vec::<f32>().expect("cast to f32");
    let mut out = vec![bf16::ZERO; values.len()];
    round_by_chance(&values, &mut out, seed, 0);
    let length = out.len();
    Tensor::from_data(TensorData::new(out, [length]), (&device, DType::BF16))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;

    use super::*;

    const LENGTH: usize = 40_000;

    fn weights() -> Vec<f32> {
        // Exact in bf16, of both signs, over three powers of two.
        (0..LENGTH).map(|i| bf16::from_f32((i % 97) as f32 / 97.0 - 0.4).to_f32()).collect()
    }

    fn mean(values: Tensor<Flex, 1>) -> f64 {
        values.into_data().iter::<f64>().sum::<f64>() / LENGTH as f64
    }

    /// At this rate an update is far below half the distance of two bf16 numbers nearly everywhere.
    #[test]
    fn small_updates_of_bf16_weights_add_up() {
        const STEPS: i32 = 20;
        let device = Default::default();
        let start = Tensor::<Flex, 1>::from_data(TensorData::new(weights(), [LENGTH]), &device);
        let gradient = Tensor::<Flex, 1>::ones([LENGTH], &device);
        let narrow = start.clone().cast(DType::BF16);
        let (mut wide, mut by_chance, mut to_nearest) =
            ((start.clone(), None), (narrow.clone(), None), (narrow, None));
        for t in 1..=STEPS {
            let betas = [0.9f64, 0.999];
            let corrections = betas.map(|beta| 1.0 - beta.powi(t));
            let numbers = AdamWStep {
                betas,
                corrections,
                eps: 1e-8,
                rate: 1e-5,
                decay: 0.0,
                scale: 1.0,
                rounding_seed: t as u64,
            };
            let next = |(value, state): (Tensor<Flex, 1>, _)| {
                let (value, state) = step(value, gradient.clone(), state, numbers);
                (value, Some(state))
            };
            wide = next(wide);
            by_chance = next(by_chance);
            assert_eq!(by_chance.0.dtype(), DType::BF16);
            let (value, state) = next((to_nearest.0.cast(DType::F32), to_nearest.1));
            to_nearest = (value.cast(DType::BF16), state);
        }
        let before = mean(start);
        let moved = |value: Tensor<Flex, 1>| mean(value.cast(DType::F32)) - before;
        let expected = moved(wide.0);
        assert!((expected + 1e-5 * f64::from(STEPS)).abs() < 1e-6, "{expected}");
        let [by_chance, to_nearest] = [by_chance.0, to_nearest.0].map(moved);
        assert!((by_chance - expected).abs() < 0.1 * expected.abs(), "{by_chance} against {expected}");
        assert!(to_nearest.abs() < 0.1 * expected.abs(), "{to_nearest} against {expected}");
    }

    #[test]
    fn a_seed_gives_the_same_weights_again() {
        let device = Default::default();
        let updated = |rounding_seed| {
            let value = Tensor::<Flex, 1>::from_data(TensorData::new(weights(), [LENGTH]), &device);
            let numbers = AdamWStep {
                betas: [0.9, 0.999],
                corrections: [0.1, 0.001],
                eps: 1e-8,
                rate: 1e-4,
                decay: 0.01,
                scale: 0.5,
                rounding_seed,
            };
            let gradient = value.clone();
            step(value.cast(DType::BF16), gradient, None, numbers).0.into_data()
        };
        assert_eq!(updated(3), updated(3));
        assert_ne!(updated(3), updated(4));
    }
}
