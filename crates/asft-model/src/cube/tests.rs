//! Kernels against their definitions, through wgpu.

use burn::{
    backend::Wgpu,
    tensor::{Tensor, TensorData},
};
use half::bf16;

use super::adamw::step_rounded;
use crate::ops::{self, AdamWStep};

const LENGTH: usize = 3000;

fn numbers(t: i32) -> AdamWStep {
    let betas = [0.9f64, 0.999];
    AdamWStep {
        betas,
        corrections: betas.map(|beta| 1.0 - beta.powi(t)),
        eps: 1e-8,
        rate: 1e-3,
        decay: 0.1,
        scale: 0.7,
        rounding_seed: 0x1234_5678_9abc_def0 ^ t as u64,
    }
}

fn tensor(value: impl Fn(usize) -> f32) -> Tensor<Wgpu, 1> {
    let values: Vec<f32> = (0..LENGTH).map(value).collect();
    Tensor::from_data(TensorData::new(values, [LENGTH]), &Default::default())
}

fn host(tensor: &Tensor<Wgpu, 1>) -> Vec<f32> {
    tensor.to_data().into_vec().unwrap()
}

#[test]
fn three_optimizer_steps_are_those_of_the_definition() {
    let start = tensor(|i| (i % 97) as f32 / 97.0 - 0.4);
    let (mut got, mut expected) = ((start.clone(), None), (start, None));
    for t in 1..=3 {
        let gradient = || tensor(|i| ((i * 31 + t as usize) % 101) as f32 / 50.0 - 1.0);
        let (value, state) = step_rounded(got.0, gradient(), got.1, numbers(t), false);
        got = (value, Some(state));
        let (value, state) = ops::adamw::step::<Wgpu>(expected.0, gradient(), expected.1, numbers(t));
        expected = (value, Some(state));
    }
    let (got_state, expected_state) = (got.1.unwrap(), expected.1.unwrap());
    for (got, expected) in [
        (&got.0, &expected.0),
        (&got_state.first, &expected_state.first),
        (&got_state.second, &expected_state.second),
    ] {
        for (got, expected) in host(got).iter().zip(host(expected)) {
            assert!((got - expected).abs() <= 1e-6 * expected.abs().max(0.1), "{got} against {expected}");
        }
    }
}

#[test]
fn moments_that_somebody_else_holds_are_left_alone() {
    let (value, gradient) = (tensor(|_| 1.0), tensor(|_| 0.5));
    let (value, state) = step_rounded(value, gradient.clone(), None, numbers(1), false);
    let before = host(&state.first);
    let kept = state.clone();
    let _ = step_rounded(value, gradient, Some(state), numbers(2), false);
    assert_eq!(host(&kept.first), before);
}

#[test]
fn rounding_by_chance_gives_neighbours_whose_mean_is_the_value() {
    // The rate is so small that the sum would be lost if it were rounded to the nearest.
    let start = tensor(|i| bf16::from_f32((i % 97) as f32 / 97.0 + 0.3).to_f32());
    let small = AdamWStep { rate: 1e-4, decay: 0.0, ..numbers(1) };
    let rounded = |seed, by_chance| {
        let numbers = AdamWStep { rounding_seed: seed, ..small };
        let gradient = tensor(|_| 1.0);
        host(&step_rounded(start.clone(), gradient, None, numbers, by_chance).0)
    };
    let exact = rounded(0, false);
    let (one, other) = (rounded(7, true), rounded(8, true));
    assert_eq!(one, rounded(7, true));
    assert_ne!(one, other);
    for (rounded, exact) in one.iter().zip(&exact) {
        assert_eq!(bf16::from_f32(*rounded).to_f32(), *rounded, "is a bf16 number");
        assert!((rounded - exact).abs() < exact.abs() / 128.0, "{rounded} is no neighbour of {exact}");
    }
    let mean = |values: &[f32]| values.iter().map(|value| f64::from(*value)).sum::<f64>() / LENGTH as f64;
    let draws: Vec<f64> = (0..40).map(|seed| mean(&rounded(seed, true))).collect();
    let mean_of_draws = draws.iter().sum::<f64>() / draws.len() as f64;
    // A draw's spacing is at most 2^-7; five standard errors over 40 x 3,000 draws.
    let allowed = 5.0 * 2f64.powi(-8) / (40.0 * LENGTH as f64).sqrt();
    assert!((mean_of_draws - mean(&exact)).abs() < allowed, "{mean_of_draws} against {}", mean(&exact));
    assert!((mean(&exact) - mean(&host(&start)) + 1e-4).abs() < 1e-6);
}
