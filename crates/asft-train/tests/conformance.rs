//! Every backend that is compiled in against Flex in f32, whose numbers are those of PyTorch (`tests/pytorch.rs`).
#![cfg(feature = "flex")]

use asft_model::{TrainBackend, WeightType};
use asft_train::conformance::{Allowed, compare};
use burn::backend::{Autodiff, Flex};

fn check<A: TrainBackend>(device: A::Device, weight_type: WeightType, allowed: Allowed) {
    let checks = compare::<Autodiff<Flex>, A>(&Default::default(), &device, weight_type, allowed).unwrap();
    assert_eq!(checks.len(), 8);
    for check in &checks {
        println!("{:24} {:.1e} of {:.1e}", check.name, check.difference, check.allowed);
    }
    assert!(checks.iter().all(|check| check.passed()), "{checks:#?}");
}

#[test]
fn flex_agrees_with_itself() {
    let none = Allowed { log_probs: 0.0, gradients: 0.0, gradient: 0.0, attention: 0.0, regret: 1e-4 };
    check::<Autodiff<Flex>>(Default::default(), WeightType::F32, none);
}

#[test]
fn flex_agrees_in_bf16() {
    check::<Autodiff<Flex>>(Default::default(), WeightType::Bf16, Allowed::BF16);
}

#[cfg(feature = "ndarray")]
#[test]
fn ndarray_agrees() {
    check::<Autodiff<burn::backend::NdArray>>(Default::default(), WeightType::F32, Allowed::F32);
}

#[cfg(feature = "ndarray")]
#[test]
fn ndarray_has_no_bf16_and_says_so() {
    type A = Autodiff<burn::backend::NdArray>;
    let device = Default::default();
    let error = compare::<Autodiff<Flex>, A>(&Default::default(), &device, WeightType::Bf16, Allowed::BF16);
    let message = error.unwrap_err().to_string();
    assert!(message.contains("bf16"), "{message}");
}

#[cfg(feature = "tch")]
#[test]
fn torch_agrees() {
    check::<Autodiff<burn::backend::LibTorch>>(Default::default(), WeightType::F32, Allowed::F32);
    check::<Autodiff<burn::backend::LibTorch>>(Default::default(), WeightType::Bf16, Allowed::BF16);
}

#[cfg(feature = "wgpu")]
#[test]
fn wgpu_agrees() {
    check::<Autodiff<burn::backend::Wgpu>>(Default::default(), WeightType::F32, Allowed::F32);
}

#[cfg(feature = "cuda")]
#[test]
fn cuda_agrees() {
    check::<Autodiff<burn::backend::Cuda>>(Default::default(), WeightType::F32, Allowed::TF32);
    check::<Autodiff<burn::backend::Cuda>>(Default::default(), WeightType::Bf16, Allowed::BF16);
}
