//! Every operation of Flex against its definition made of tensor operations, and the backward passes against
//! what autodiff makes of the definition.

use burn::{
    backend::{Autodiff, Flex},
    tensor::{DType, Distribution, Int, Tensor, TensorData, activation::silu},
};
use proptest::prelude::*;

use super::host_tests::layouts;
use crate::{
    LlamaBackend, WeightType,
    ops::{self, AdamWStep, AttentionInputs, KeyValues, primitive, tensor},
    quantization::{BLOCK, Quantization, Quantized},
};

type A = Autodiff<Flex>;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Default::default())
}

#[track_caller]
fn close<const D: usize>(name: &str, got: Tensor<Flex, D>, expected: Tensor<Flex, D>, tolerance: f64) {
    assert_eq!(got.dims(), expected.dims(), "{name}");
    let values = got.into_data().iter::<f64>().zip(expected.into_data().iter::<f64>()).collect::<Vec<_>>();
    for (index, (got, expected)) in values.into_iter().enumerate() {
        let allowed = tolerance * expected.abs().max(1.0);
        assert!((got - expected).abs() <= allowed, "{name}[{index}]: {got} against {expected}");
    }
}

fn tracked<const D: usize>(values: &Tensor<Flex, D>) -> Tensor<A, D> {
    Tensor::from_inner(values.clone()).require_grad()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn attention_of_any_layout_is_the_definition(
        layout in layouts(),
        kv_heads in 1usize..4,
        group in 1usize..4,
        half_dim in 1usize..40,
    ) {
        let (tokens, dim) = (layout.tokens(), 2 * half_dim);
        let rows = |heads: usize| primitive(random([tokens, heads, dim]));
        let [q, k, v, grad] = [kv_heads * group, kv_heads, kv_heads, kv_heads * group].map(rows);
        let inputs = AttentionInputs::<Flex> { q, k, v, layout, scale: 1.0 / (dim as f64).sqrt() };
        let (out, lse) = Flex::packed_attention_forward(inputs.clone());
        let (expected_out, expected_lse) = ops::tiled_attention::forward::<Flex>(inputs.clone());
        close("out", tensor::<Flex, 3>(out.clone()), tensor(expected_out), 1e-5);
        close("lse", tensor::<Flex, 2>(lse.clone()), tensor(expected_lse), 1e-5);
        let got = Flex::packed_attention_backward(inputs.clone(), out.clone(), lse.clone(), grad.clone());
        let expected = ops::tiled_attention::backward::<Flex>(inputs, out, lse, grad);
        for ((name, got), expected) in ["dq", "dk", "dv"].into_iter().zip(got).zip(expected) {
            close(name, tensor::<Flex, 3>(got), tensor(expected), 1e-4);
        }
    }

    #[test]
    fn norms_are_the_definition(rows in 1usize..140, width in 1usize..80) {
        let (x, weight, grad) = (random([rows, width]), random([width]), random([rows, width]));
        let eps = 1e-3;
        let (leaf, scale) = (tracked(&x), tracked(&weight));
        let mean_square = (leaf.clone() * leaf.clone()).mean_dim(1);
        let out = leaf.clone() / (mean_square + eps).sqrt() * scale.clone().unsqueeze::<2>();
        close("out", tensor::<Flex, 2>(Flex::rms_norm(primitive(x.clone()), primitive(weight.clone()), eps)),
            out.clone().inner(), 1e-5);
        let gradients = (out * Tensor::from_inner(grad.clone())).backward();
        let expected = (leaf.grad(&gradients).unwrap(), scale.grad(&gradients).unwrap());
        let arguments = || (primitive(x.clone()), primitive(weight.clone()), primitive(grad.clone()));
        for backward in [Flex::rms_norm_backward, ops::rms_norm::backward::<Flex>] {
            let (x, weight, grad) = arguments();
            let [by_x, by_weight] = backward(x, weight, eps, grad);
            close("dx", tensor(by_x), expected.0.clone(), 1e-4);
            close("dweight", tensor(by_weight), expected.1.clone(), 1e-4);
        }
    }

    #[test]
    fn gates_are_the_definition(rows in 1usize..20, width in 1usize..2000) {
        let [gate, up, grad] = [(); 3].map(|()| random([rows, width]) * 4.0);
        let (a, b) = (tracked(&gate), tracked(&up));
        let out = silu(a.clone()) * b.clone();
        let got = Flex::swiglu(primitive(gate.clone()), primitive(up.clone()));
        close("out", tensor::<Flex, 2>(got), out.clone().inner(), 1e-5);
        let gradients = (out * Tensor::from_inner(grad.clone())).backward();
        for backward in [Flex::swiglu_backward, ops::swiglu::backward::<Flex>] {
            let [gate, up, grad] = [&gate, &up, &grad].map(|t| primitive(t.clone()));
            let [by_gate, by_up] = backward(gate, up, grad);
            close("dgate", tensor::<Flex, 2>(by_gate), a.grad(&gradients).unwrap(), 1e-4);
            close("dup", tensor::<Flex, 2>(by_up), b.grad(&gradients).unwrap(), 1e-4);
        }
    }

    #[test]
    fn rotations_are_the_definition_and_turn_back(tokens in 1usize..40, heads in 1usize..5, half in 1usize..40) {
        let x = random([tokens, heads, 2 * half]);
        let angles = random([tokens, half]);
        let [cos, sin] = [angles.clone().cos(), angles.sin()];
        let arguments = || [primitive(cos.clone()), primitive(sin.clone())];
        let [c, s] = arguments();
        let got = Flex::rotary(primitive(x.clone()), c.clone(), s.clone());
        let expected = ops::rotary::forward::<Flex>(primitive(x.clone()), c, s);
        close("out", tensor::<Flex, 3>(got.clone()), tensor(expected), 1e-6);
        let back = Flex::rotary(got, primitive(cos), primitive(sin.neg()));
        close("turned back", tensor(back), x, 1e-5);
    }

    #[test]
    fn log_probs_are_the_definition(rows in 1usize..20, vocab in 1usize..300, seed: u32) {
        let logits = random([rows, vocab]) * 10.0;
        let labels: Vec<i32> = (0..rows).map(|row| ((seed as usize + row * 31) % vocab) as i32).collect();
        let labels = Tensor::<Flex, 1, Int>::from_data(TensorData::new(labels, [rows]), &Default::default());
        let coefficients = random([rows]);
        let arguments = || (primitive(logits.clone()), labels.clone().into_primitive());
        let (l, i) = arguments();
        let expected = tensor::<Flex, 1>(ops::log_probs::forward::<Flex>(l.clone(), i.clone()));
        close("log_probs", tensor(Flex::label_log_probs(l, i)), expected.clone(), 1e-5);
        let (l, i) = arguments();
        let (got, gradient) = Flex::label_log_probs_and_gradient(l, i, primitive(coefficients.clone()));
        close("log_probs again", tensor(got), expected, 1e-5);
        let (l, i) = arguments();
        let (_, expected) = ops::log_probs::forward_and_gradient::<Flex>(l, i, primitive(coefficients));
        close("gradient", tensor::<Flex, 2>(gradient), tensor(expected), 1e-5);
    }

    #[test]
    fn products_are_added(m in 1usize..40, n in 1usize..40, k in 1usize..40) {
        let (sum, lhs, rhs) = (random([m, n]), random([k, m]), random([k, n]));
        let expected = sum.clone() + lhs.clone().transpose().matmul(rhs.clone());
        let [by_transpose, by_rows] = [lhs.clone().transpose(), lhs.transpose() * 1.0].map(primitive);
        for lhs in [by_transpose, by_rows] {
            let got = Flex::add_product(primitive(sum.clone()), lhs.clone(), primitive(rhs.clone()));
            close("sum", tensor::<Flex, 2>(got), expected.clone(), 1e-5);
            let got = Flex::product(lhs, primitive(rhs.clone()));
            close("product", tensor::<Flex, 2>(got) + sum.clone(), expected.clone(), 1e-5);
        }
    }

    #[test]
    fn sums_are_the_definition(length in 1usize..40_000) {
        let values = random([length]);
        let (got, expected) = (Flex::sum_of_squares(values.clone()), ops::sums::sum_of_squares(values));
        prop_assert!((got - expected).abs() <= 1e-6 * expected, "{got} against {expected}");
    }

    #[test]
    fn rows_are_added_where_they_belong(length in 1usize..20, width in 1usize..40, count in 0usize..40) {
        let (sum, rows) = (random([length, width]), random([count, width]));
        let indices: Vec<i32> = (0..count).map(|row| (row * 7 % length) as i32).collect();
        let indices = Tensor::<Flex, 1, Int>::from_data(TensorData::new(indices, [count]), &Default::default());
        let before = sum.to_data();
        let expected = ops::sums::add_rows(sum.clone(), indices.clone(), rows.clone());
        close("sum", Flex::add_rows(sum.clone(), indices, rows), expected, 0.0);
        prop_assert_eq!(sum.into_data(), before);
    }

    #[test]
    fn adamw_is_the_definition(length in 1usize..40_000, decay in 0.0f64..0.1) {
        let start = random([length]);
        let (mut ours, mut theirs) = ((start.clone(), None), (start, None));
        for t in 1..=3 {
            let (betas, gradient) = ([0.9f64, 0.95], random([length]));
            let corrections = betas.map(|beta| 1.0 - beta.powi(t));
            let step = AdamWStep { betas, corrections, eps: 1e-8, rate: 1e-2, decay, scale: 0.3, state_type: WeightType::F32, rounding_seed: 0 };
            let (value, state) = Flex::adamw(ours.0, gradient.clone(), ours.1, step);
            ours = (value, Some(state));
            let (value, state) = ops::adamw::step::<Flex>(theirs.0, gradient, theirs.1, step);
            theirs = (value, Some(state));
        }
        close("value", ours.0, theirs.0, 1e-5);
        let (ours, theirs) = (ours.1.unwrap(), theirs.1.unwrap());
        close("first", ours.first, theirs.first, 1e-6);
        close("second", ours.second, theirs.second, 1e-6);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn decoding_attends_as_its_definition(
        lengths in prop::collection::vec(1usize..70, 1..4),
        (kv_heads, group) in (1usize..4, 1usize..4),
        dim in prop_oneof![Just(8usize), Just(16), Just(40)],
    ) {
        let caches: Vec<KeyValues<Flex>> = lengths
            .iter()
            .map(|&length| {
                let buffer = || {
                    let rows = random([length, kv_heads, dim]);
                    let room = Tensor::<Flex, 3>::zeros([length + 3, kv_heads, dim], &Default::default());
                    let (filled, rows) = (Flex::write_rows(primitive(room.clone()), primitive(rows.clone()), 2), rows);
                    let expected = ops::decode::write_rows::<Flex>(primitive(room), primitive(rows), 2);
                    close::<3>("rows", tensor(filled.clone()), tensor(expected), 0.0);
                    filled
                };
                KeyValues { k: buffer(), v: buffer(), length: length + 2 }
            })
            .collect();
        let q = random([caches.len(), kv_heads * group, dim]);
        let scale = 1.0 / (dim as f64).sqrt();
        let got = Flex::decode_attention(primitive(q.clone()), &caches, scale);
        let expected = ops::decode::attention::<Flex>(primitive(q), &caches, scale);
        close::<3>("attention", tensor(got), tensor(expected), 1e-5);
    }
}

#[test]
fn dropout_depends_on_seed_and_place_and_is_its_own_gradient() {
    const SHAPE: [usize; 2] = [300, 70];
    let x = random(SHAPE);
    let dropout = |x: &Tensor<Flex, 2>, rate, seed| -> Tensor<Flex, 2> {
        tensor(Flex::dropout(primitive(x.clone()), ops::Dropout { rate, seed }))
    };
    let ones = x.ones_like();
    let mask = dropout(&ones, 0.3, 5);
    assert_eq!(mask.clone().into_data(), dropout(&ones, 0.3, 5).into_data());
    assert_ne!(mask.clone().into_data(), dropout(&ones, 0.3, 6).into_data());
    let values: Vec<f32> = mask.clone().into_data().to_vec().unwrap();
    assert!(values.iter().all(|&value| value == 0.0 || (value - 1.0 / 0.7).abs() < 1e-4));
    // 21,000 draws: five standard errors of the share of zeros.
    let zeros = values.iter().filter(|&&value| value == 0.0).count() as f64 / values.len() as f64;
    assert!((zeros - 0.3).abs() < 5.0 * (0.21 / 21_000.0f64).sqrt(), "{zeros}");

    let leaf = tracked(&x);
    let out: Tensor<A, 2> = tensor(A::dropout(primitive(leaf.clone()), ops::Dropout { rate: 0.3, seed: 5 }));
    close("forward", out.clone().inner(), x.clone() * mask.clone(), 0.0);
    let gradients = (out * tracked(&x)).sum().backward();
    close("gradient", leaf.grad(&gradients).unwrap(), x * mask, 0.0);
}

#[test]
fn the_definition_of_dropout_keeps_what_its_rate_says() {
    let ones = Tensor::<Flex, 2>::ones([300, 70], &Default::default());
    let mask = |seed| -> Vec<f32> {
        let dropout = ops::Dropout { rate: 0.3, seed };
        let out: Tensor<Flex, 2> = tensor(ops::dropout::forward::<Flex>(primitive(ones.clone()), dropout));
        out.into_data().to_vec().unwrap()
    };
    let values = mask(5);
    assert_eq!(values, mask(5));
    assert_ne!(values, mask(6));
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    assert!((mean - 1.0).abs() < 5.0 * (0.3f32 / 0.7 / 21_000.0).sqrt(), "{mean}");
}

#[test]
fn codes_are_expanded_as_the_definition_has_it_and_stand_for_the_nearest_values() {
    // A whole number of blocks, less than one, and many tasks with a rest.
    for [rows, columns] in [[8, 16], [3, 5], [301, 113]] {
        let values: Vec<f32> = random([rows, columns]).into_data().to_vec().unwrap();
        for quantization in [Quantization::Int8, Quantization::Nf4] {
            let device = Default::default();
            let matrix = Quantized::<Flex>::new(quantization, &values, [rows, columns], &device);
            assert_eq!(
                4 * (matrix.codes.dims()[0] + matrix.scales.dims()[0]),
                quantization.bytes(values.len())
            );
            let got: Tensor<Flex, 2> = tensor(Flex::expand_codes(&matrix, DType::F32));
            let expected: Tensor<Flex, 2> = tensor(ops::quantized::expand_codes(&matrix, DType::F32));
            close("codes", got.clone(), expected, 0.0);
            let book: Vec<f32> = matrix.code_book.clone().into_data().to_vec().unwrap();
            let got: Vec<f32> = got.into_data().to_vec().unwrap();
            for (got, values) in got.chunks(BLOCK).zip(values.chunks(BLOCK)) {
                let scale = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                for (got, value) in got.iter().zip(values) {
                    let error = |entry: &f32| (entry * scale - value).abs();
                    let least = book.iter().map(error).fold(f32::INFINITY, f32::min);
                    assert!((got - value).abs() <= least + 1e-6 * scale, "{value} became {got}");
                }
            }
        }
    }
}

#[test]
fn products_with_codes_have_the_gradients_of_products_with_their_values() {
    let device = Default::default();
    let (gate, up, outer) = (random([7, 24]), random([7, 24]), random([7, 10]));
    let values: Vec<f32> = random([10, 24]).into_data().to_vec().unwrap();
    let codes = Quantized::<A>::new(Quantization::Nf4, &values, [10, 24], &device);
    let run = |project: &dyn Fn(Tensor<A, 2>, Tensor<A, 2>) -> Tensor<A, 2>| {
        let [gate, up] = [&gate, &up].map(tracked);
        let out = project(gate.clone(), up.clone());
        let gradients = (out.clone() * Tensor::from_inner(outer.clone())).sum().backward();
        [out.inner(), gate.grad(&gradients).unwrap(), up.grad(&gradients).unwrap()]
    };
    let weight = || A::expand_codes(&codes, DType::F32);
    let got = run(&|gate, up| {
        let plain: Tensor<A, 2> = tensor(A::project_quantized(primitive(gate.clone()), &codes));
        plain + tensor(A::swiglu_project_quantized(primitive(gate), primitive(up), &codes))
    });
    let expected = run(&|gate, up| {
        let plain: Tensor<A, 2> = tensor(A::project(primitive(gate.clone()), weight()));
        plain + tensor(A::swiglu_project(primitive(gate), primitive(up), weight()))
    });
    for (got, expected) in got.into_iter().zip(expected) {
        close("products", got, expected, 1e-6);
    }
}
