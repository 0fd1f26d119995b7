//! The update of AdamW (arXiv 1711.05101).

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use half::bf16;

use super::rounding::{mix, round_by_chance};
use crate::WeightType;

/// Moments of one parameter, flat.
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
    /// Type in which the moments are kept.
    pub state_type: WeightType,
    /// Seed of the chance by which what is kept in bf16 is rounded; the same for no two steps or parameters.
    pub rounding_seed: u64,
}

impl AdamWStep {
    /// Seeds of the chance by which the parameter and its two moments are rounded.
    pub(crate) fn seeds(&self) -> [u64; 3] {
        [self.rounding_seed, mix(self.rounding_seed), mix(!self.rounding_seed)]
    }
}

/// `m ← β₁m + (1-β₁)g`, `v ← β₂v + (1-β₂)g²`, `w ← w - η λ w - η m̂ / (√v̂ + ε)` with m̂, v̂ divided by
/// `1 - βᵗ`; without a state, m and v are 0 before. All of it is f32 whatever the types of `value` and state, which
/// are rounded by chance afterwards: v changes by a thousandth a step, which rounding to the nearest bf16 would lose.
pub fn step<B: Backend>(
    value: Tensor<B, 1>,
    gradient: Tensor<B, 1>,
    state: Option<AdamWState<B>>,
    step: AdamWStep,
) -> (Tensor<B, 1>, AdamWState<B>) {
    let AdamWStep { betas: [beta_1, beta_2], corrections, eps, rate, decay, scale, .. } = step;
    let (dtype, state_type) = (value.dtype(), DType::from(step.state_type.dtype()));
    let [value_seed, first_seed, second_seed] = step.seeds();
    let value = value.cast(DType::F32);
    let (step_size, second_root) = (rate / corrections[0], corrections[1].sqrt());
    let gradient = gradient.mul_scalar(scale);
    let fresh = gradient.clone().mul_scalar(1.0 - beta_1);
    let fresh_square = (gradient.clone() * gradient).mul_scalar(1.0 - beta_2);
    let (first, second) = match state {
        Some(AdamWState { first, second }) => {
            let [first, second] = [first, second].map(|moment| moment.cast(DType::F32));
            (first.mul_scalar(beta_1) + fresh, second.mul_scalar(beta_2) + fresh_square)
        }
        None => (fresh, fresh_square),
    };
    let root = second.clone().sqrt().div_scalar(second_root).add_scalar(eps);
    let updated = value.mul_scalar(1.0 - rate * decay) - (first.clone() / root).mul_scalar(step_size);
    let first = stored(first, state_type, first_seed);
    let second = stored(second, state_type, second_seed);
    (stored(updated, dtype, value_seed), AdamWState { first, second })
}

/// The values as they are kept, rounded by chance where that is bf16. Where they lie, no tensor operation can look at
/// their bits, so the host does it.
fn stored<B: Backend>(values: Tensor<B, 1>, dtype: DType, seed: u64) -> Tensor<B, 1> {
    if dtype != DType::BF16 {
        return values;
    }
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
                state_type: WeightType::F32,
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

    /// A thousandth of what is missing is added a step, far below half the distance of two bf16 numbers.
    #[test]
    fn moments_in_bf16_grow_as_those_in_f32_do() {
        let device = Default::default();
        let gradient = Tensor::<Flex, 1>::ones([LENGTH], &device);
        let after = |state_type| {
            let mut kept = (Tensor::<Flex, 1>::zeros([LENGTH], &device), None);
            for t in 1..=60 {
                let betas = [0.9f64, 0.999];
                let numbers = AdamWStep {
                    betas,
                    corrections: betas.map(|beta| 1.0 - beta.powi(t)),
                    eps: 1e-8,
                    rate: 1e-3,
                    decay: 0.0,
                    scale: 1.0,
                    state_type,
                    rounding_seed: mix(t as u64),
                };
                let (value, state) = step(kept.0, gradient.clone(), kept.1, numbers);
                kept = (value, Some(state));
            }
            let (value, state) = (kept.0, kept.1.unwrap());
            let narrow = [&state.first, &state.second].map(|moment| moment.dtype());
            assert_eq!(narrow, [DType::from(state_type.dtype()); 2]);
            [value, state.first.cast(DType::F32), state.second.cast(DType::F32)].map(mean)
        };
        let [wide, narrow] = [WeightType::F32, WeightType::Bf16].map(after);
        for (wide, narrow) in wide.into_iter().zip(narrow) {
            assert!((wide - narrow).abs() < 2e-3 * wide.abs(), "{narrow} against {wide}");
        }
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
                state_type: WeightType::Bf16,
                rounding_seed,
            };
            let gradient = value.clone();
            let (value, AdamWState { first, second }) =
                step(value.cast(DType::BF16), gradient, None, numbers);
            [value, first, second].map(Tensor::into_data)
        };
        assert_eq!(updated(3), updated(3));
        assert_ne!(updated(3), updated(4));
    }
}
