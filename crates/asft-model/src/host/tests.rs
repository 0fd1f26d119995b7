//! Every operation of a backend that computes on the host against its definition made of tensor operations on f32 copies,
//! in f32 and in bf16. The backends include this file as a module and name themselves `Tested`.

use std::sync::Arc;

use burn::tensor::{DType, Distribution, Int, Tensor, TensorData};
use proptest::prelude::*;

use super::Tested as B;
use crate::{
    AttentionLayout, LlamaBackend, Span, WeightType,
    ops::{self, AdamWState, AdamWStep, AttentionInputs, KeyValues, primitive, tensor},
    quantization::{Quantization, Quantized},
};

/// A type of operands, and what results and gradients may differ by.
const KINDS: [(DType, f64, f64); 2] = [(DType::F32, 1e-5, 1e-4), (DType::BF16, 2e-2, 2e-2)];

fn random<const D: usize>(shape: [usize; D], dtype: DType) -> Tensor<B, D> {
    Tensor::<B, D>::random(shape, Distribution::Normal(0.0, 1.0), &Default::default()).cast(dtype)
}

/// The same values in f32, in memory of their own.
fn wide<const D: usize>(t: &Tensor<B, D>) -> Tensor<B, D> {
    Tensor::from_data(t.to_data().convert::<f32>(), &Default::default())
}

/// Differences count against the largest value expected, or 1 if that is more.
#[track_caller]
fn close<const D: usize>(name: &str, got: Tensor<B, D>, expected: Tensor<B, D>, tolerance: f64) {
    assert_eq!(got.dims(), expected.dims(), "{name}");
    let [got, expected] = [got, expected].map(|t| t.into_data().iter::<f64>().collect::<Vec<_>>());
    let allowed = tolerance * expected.iter().fold(1.0, |most: f64, value| most.max(value.abs()));
    for (index, (got, expected)) in got.into_iter().zip(expected).enumerate() {
        assert!(
            (got - expected).abs() <= allowed,
            "{name}[{index}]: {got} against {expected}, {allowed} allowed"
        );
    }
}

/// A step that changes every value.
const STEP: AdamWStep = AdamWStep {
    betas: [0.9; 2],
    corrections: [0.1; 2],
    eps: 0.1,
    rate: 0.1,
    decay: 0.1,
    scale: 1.0,
    state_type: WeightType::F32,
    rounding_seed: 0,
};

/// A layout of any spans: some look back on the stream, some on nothing; lengths from one token up.
pub(super) fn layouts() -> impl Strategy<Value = Arc<AttentionLayout>> {
    let length = prop_oneof![1usize..4, 1usize..40, 120usize..140, 250usize..400];
    prop::collection::vec((length, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..5)
        .prop_map(|spans| {
            let mut end = 0;
            let spans = spans.into_iter().map(|(length, from, to)| {
                let bounds = [from, to].map(|index| index.index(end + 1));
                let prefix = bounds[0].min(bounds[1])..bounds[0].max(bounds[1]);
                let own = end..end + length;
                end = own.end;
                Span { prefix, own }
            });
            Arc::new(AttentionLayout::new(spans.collect()))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn attention_of_any_layout_is_the_definition(
        layout in layouts(),
        kv_heads in 1usize..4,
        group in 1usize..4,
        half_dim in 1usize..40,
    ) {
        for (dtype, forward, backward) in KINDS {
            let (tokens, dim) = (layout.tokens(), 2 * half_dim);
            let rows = |heads: usize| random([tokens, heads, dim], dtype);
            let [q, k, v, grad] = [kv_heads * group, kv_heads, kv_heads, kv_heads * group].map(rows);
            let inputs = |[q, k, v]: [&Tensor<B, 3>; 3]| AttentionInputs::<B> {
                q: primitive(q.clone()),
                k: primitive(k.clone()),
                v: primitive(v.clone()),
                layout: layout.clone(),
                scale: 1.0 / (dim as f64).sqrt(),
            };
            let narrow = inputs([&q, &k, &v]);
            let wide_inputs = inputs([&wide(&q), &wide(&k), &wide(&v)]);
            let (out, lse) = B::packed_attention_forward(narrow.clone());
            let (expected_out, expected_lse) = ops::tiled_attention::forward::<B>(wide_inputs.clone());
            let out_tensor = tensor::<B, 3>(out.clone());
            prop_assert_eq!(out_tensor.dtype(), DType::F32);
            close("out", out_tensor, tensor(expected_out.clone()), forward);
            let expected =
                ops::tiled_attention::backward::<B>(wide_inputs, expected_out, expected_lse, primitive(wide(&grad)));
            let got = B::packed_attention_backward(narrow, out, lse, primitive(grad));
            for ((name, got), expected) in ["dq", "dk", "dv"].into_iter().zip(got).zip(expected) {
                prop_assert_eq!(tensor::<B, 3>(got.clone()).dtype(), dtype);
                close(name, tensor::<B, 3>(got), tensor(expected), backward);
            }
        }
    }

    #[test]
    fn norms_are_the_definition(rows in 1usize..140, width in 1usize..80) {
        for (dtype, forward, backward) in KINDS {
            let (x, weight, grad) =
                (random([rows, width], dtype), random([width], dtype), random([rows, width], dtype));
            let (x32, weight32, grad32) = (wide(&x), wide(&weight), wide(&grad));
            let eps = 1e-3;
            let got = tensor::<B, 2>(B::rms_norm(primitive(x.clone()), primitive(weight.clone()), eps));
            prop_assert_eq!(got.dtype(), dtype);
            let expected = ops::rms_norm::forward::<B>(primitive(x32.clone()), primitive(weight32.clone()), eps);
            close("out", got, tensor(expected), forward);
            let [by_x, by_weight] = B::rms_norm_backward(primitive(x), primitive(weight), eps, primitive(grad));
            let [expected_x, expected_weight] =
                ops::rms_norm::backward::<B>(primitive(x32), primitive(weight32), eps, primitive(grad32));
            prop_assert_eq!(tensor::<B, 1>(by_weight.clone()).dtype(), dtype);
            close("dx", tensor::<B, 2>(by_x), tensor(expected_x), backward);
            close("dweight", tensor::<B, 1>(by_weight), tensor(expected_weight), backward);
        }
    }

    #[test]
    fn gates_are_the_definition(rows in 1usize..20, width in 1usize..2000) {
        for (dtype, forward, backward) in KINDS {
            let operands = [(); 3].map(|()| random([rows, width], dtype) * 3.0);
            let [gate, up, grad] = operands.clone().map(primitive);
            let [gate32, up32, grad32] = operands.map(|t| primitive(wide(&t)));
            let expected = ops::swiglu::forward::<B>(gate32.clone(), up32.clone());
            close("out", tensor::<B, 2>(B::swiglu(gate.clone(), up.clone())), tensor(expected), forward);
            let got = B::swiglu_backward(gate, up, grad);
            let expected = ops::swiglu::backward::<B>(gate32, up32, grad32);
            for ((name, got), expected) in ["dgate", "dup"].into_iter().zip(got).zip(expected) {
                prop_assert_eq!(tensor::<B, 2>(got.clone()).dtype(), dtype);
                close(name, tensor::<B, 2>(got), tensor(expected), backward);
            }
        }
    }

    #[test]
    fn rotations_are_the_definition(tokens in 1usize..40, heads in 1usize..5, half in 1usize..40) {
        for (dtype, forward, _) in KINDS {
            let x = random([tokens, heads, 2 * half], dtype);
            let angles = random([tokens, half], DType::F32);
            let [cos, sin] = [angles.clone().cos(), angles.sin()].map(primitive);
            let got = tensor::<B, 3>(B::rotary(primitive(x.clone()), cos.clone(), sin.clone()));
            prop_assert_eq!(got.dtype(), dtype);
            close("out", got, tensor(ops::rotary::forward::<B>(primitive(wide(&x)), cos, sin)), forward);
        }
    }

    #[test]
    fn log_probs_are_the_definition(rows in 1usize..20, vocab in 1usize..300, seed: u32) {
        for (dtype, forward, _) in KINDS {
            let logits = (random([rows, vocab], DType::F32) * 10.0).cast(dtype);
            let labels: Vec<i32> = (0..rows).map(|row| ((seed as usize + row * 31) % vocab) as i32).collect();
            let labels = Tensor::<B, 1, Int>::from_data(TensorData::new(labels, [rows]), &Default::default());
            let coefficients = random([rows], DType::F32);
            let labels = labels.into_primitive();
            let (expected, expected_gradient) = ops::log_probs::forward_and_gradient::<B>(
                primitive(wide(&logits)),
                labels.clone(),
                primitive(coefficients.clone()),
            );
            let got = tensor::<B, 1>(B::label_log_probs(primitive(logits.clone()), labels.clone()));
            prop_assert_eq!(got.dtype(), DType::F32);
            close("log_probs", got, tensor(expected.clone()), 1e-5);
            let (got, gradient) =
                B::label_log_probs_and_gradient(primitive(logits), labels, primitive(coefficients));
            close("log_probs again", tensor::<B, 1>(got), tensor(expected), 1e-5);
            prop_assert_eq!(tensor::<B, 2>(gradient.clone()).dtype(), dtype);
            close("gradient", tensor::<B, 2>(gradient), tensor(expected_gradient), forward);
        }
    }

    #[test]
    fn products_are_added(m in 1usize..40, n in 1usize..40, k in 1usize..40) {
        for (dtype, forward, _) in KINDS {
            let (sum, lhs, rhs) = (random([m, n], DType::F32), random([k, m], dtype), random([k, n], dtype));
            let expected = sum.clone() + wide(&lhs).transpose().matmul(wide(&rhs));
            let operands = || [lhs.clone().transpose(), rhs.clone()].map(primitive);
            let [l, r] = operands();
            let shared = B::add_product(primitive(sum.clone()), l, r);
            close("sum", tensor::<B, 2>(shared), expected.clone(), forward);
            let [l, r] = operands();
            let owned = B::add_product(primitive(wide(&sum)), l, r);
            close("sum in place", tensor::<B, 2>(owned), expected.clone(), forward);
            let [l, r] = operands();
            let product = tensor::<B, 2>(B::product(l, r));
            prop_assert_eq!(product.dtype(), dtype);
            close("product", wide(&product) + sum, expected, forward);
        }
    }

    #[test]
    fn values_and_rows_are_added(length in 1usize..20, width in 1usize..40, count in 1usize..40) {
        for (dtype, ..) in KINDS {
            let (sum, rows) = (random([length, width], DType::F32), random([count, width], dtype));
            let indices: Vec<i32> = (0..count).map(|row| (row * 7 % length) as i32).collect();
            let indices = Tensor::<B, 1, Int>::from_data(TensorData::new(indices, [count]), &Default::default());
            let expected = ops::sums::add_rows(sum.clone(), indices.clone(), wide(&rows));
            close("rows", B::add_rows(sum, indices, rows.clone()), expected, 1e-6);
            let flat = rows.reshape([count * width]);
            let first = B::add_values(None, flat.clone());
            prop_assert_eq!(first.dtype(), DType::F32);
            close("first", first.clone(), wide(&flat), 0.0);
            close("second", B::add_values(Some(first), flat.clone()), wide(&flat) * 2.0, 0.0);
        }
    }

    #[test]
    fn decoding_attends_as_its_definition(
        lengths in prop::collection::vec(1usize..70, 1..4),
        (kv_heads, group) in (1usize..4, 1usize..4),
    ) {
        const DIM: usize = 16;
        for (dtype, forward, _) in KINDS {
            let caches: Vec<[Tensor<B, 3>; 2]> = lengths
                .iter()
                .map(|&length| [(); 2].map(|()| random([length + 3, kv_heads, DIM], dtype)))
                .collect();
            let of = |wide: fn(&Tensor<B, 3>) -> Tensor<B, 3>| -> Vec<KeyValues<B>> {
                let caches = caches.iter().zip(&lengths);
                let cache = |([k, v], &length): (&[Tensor<B, 3>; 2], _)| {
                    KeyValues { k: primitive(wide(k)), v: primitive(wide(v)), length }
                };
                caches.map(cache).collect()
            };
            let q = random([lengths.len(), kv_heads * group, DIM], dtype);
            let got = tensor::<B, 3>(B::decode_attention(primitive(q.clone()), &of(Tensor::clone), 0.25));
            prop_assert_eq!(got.dtype(), dtype);
            let expected = ops::decode::attention::<B>(primitive(wide(&q)), &of(wide), 0.25);
            close("attention", got, tensor(expected), forward);
            let [buffer, rows] = [5, 2].map(|length| random([length, kv_heads, DIM], dtype));
            let [b, r] = [&buffer, &rows].map(|t| primitive(t.clone()));
            let expected = ops::decode::write_rows::<B>(b.clone(), r.clone(), 1);
            close::<3>("rows", tensor(B::write_rows(b, r, 1)), tensor(expected), 0.0);
        }
    }

    #[test]
    fn adamw_is_the_definition(
        length in 1usize..40_000,
        decay in 0.0f64..0.1,
        state_type in prop_oneof![Just(WeightType::F32), Just(WeightType::Bf16)],
    ) {
        for (dtype, _, _) in KINDS {
            let start = random([length], dtype);
            let (mut ours, mut theirs) = ((start.clone(), None), (start, None));
            for t in 1..=3 {
                let (betas, gradient) = ([0.9f64, 0.95], random([length], DType::F32));
                let corrections = betas.map(|beta| 1.0 - beta.powi(t));
                let step =
                    AdamWStep { betas, corrections, eps: 1e-8, rate: 1e-2, decay, scale: 0.3, state_type, rounding_seed: 5 };
                let (value, state) = B::adamw(ours.0, gradient.clone(), ours.1, step);
                ours = (value, Some(state));
                let (value, state) = ops::adamw::step::<B>(theirs.0, gradient, theirs.1, step);
                theirs = (value, Some(state));
            }
            prop_assert_eq!(ours.0.dtype(), dtype);
            // Where the sums differ in their last bit, chance may fall on another neighbour.
            close("value", ours.0, theirs.0, if dtype == DType::F32 { 1e-5 } else { 1e-2 });
            let (ours, theirs) = (ours.1.unwrap(), theirs.1.unwrap());
            let kept = if state_type == WeightType::F32 { 1e-6 } else { 1e-2 };
            close("first", ours.first, theirs.first, kept);
            close("second", ours.second, theirs.second, kept);
        }
    }
}

#[test]
fn codes_are_expanded_in_the_type_that_is_asked_for() {
    let [rows, columns] = [301, 113];
    let values: Vec<f32> = random([rows, columns], DType::F32).into_data().to_vec().unwrap();
    for quantization in [Quantization::Int8, Quantization::Nf4] {
        let matrix = Quantized::<B>::new(quantization, &values, [rows, columns], &Default::default());
        for (dtype, ..) in KINDS {
            let got = tensor::<B, 2>(B::expand_codes(&matrix, dtype));
            assert_eq!(got.dtype(), dtype);
            let expected = tensor::<B, 2>(ops::quantized::expand_codes(&matrix, DType::F32));
            // Half the distance to the next bf16, of numbers up to 5.
            close("codes", got, expected, if dtype == DType::F32 { 0.0 } else { 4e-3 });
        }
    }
}

#[test]
fn what_is_dropped_does_not_depend_on_the_type() {
    let x = random([300, 70], DType::BF16);
    let dropout = |x| tensor::<B, 2>(B::dropout(primitive(x), ops::Dropout { rate: 0.3, seed: 5 }));
    let (got, expected) = (dropout(x.clone()), dropout(wide(&x)));
    assert_eq!(got.dtype(), DType::BF16);
    close("dropout", got, expected, 4e-3);
}

/// Nobody else's tensor changes where an operation works in place.
#[test]
fn what_is_shared_stays_as_it_was() {
    for (dtype, ..) in KINDS {
        let (x, other) = (random([3, 4], dtype), random([3, 4], dtype));
        let before = x.to_data();
        let weight = random([4], dtype);
        let [p, o] = [&x, &other].map(|t| primitive(t.clone()));
        B::rms_norm(p.clone(), primitive(weight.clone()), 1e-5);
        B::rms_norm_backward(o.clone(), primitive(weight), 1e-5, p.clone());
        B::swiglu(p.clone(), o.clone());
        B::swiglu_backward(p.clone(), o.clone(), o.clone());
        B::swiglu_backward(o.clone(), p.clone(), o.clone());
        B::add_product(p.clone(), primitive(random([3, 2], dtype)), primitive(random([2, 4], dtype)));
        let labels = Tensor::<B, 1, Int>::from_ints([0, 1, 2], &Default::default()).into_primitive();
        let coefficients = primitive(random([3], DType::F32));
        B::label_log_probs_and_gradient(p.clone(), labels, coefficients);
        let half = random([3, 2], DType::F32);
        B::rotary(primitive(x.clone().reshape([3, 1, 4])), primitive(half.clone()), primitive(half));
        let flat = x.clone().reshape([12]);
        let moment = wide(&flat);
        let moments = AdamWState { first: moment.clone(), second: moment.clone() };
        B::adamw(flat, moment.clone(), Some(moments), STEP);
        assert_eq!(x.to_data(), before);
        assert_eq!(moment.into_data(), wide(&x).reshape([12]).into_data());
    }
}

/// Rows of a longer buffer, and columns, which lie in no order.
#[test]
fn views_are_read_as_what_they_show() {
    let (wide_rows, weight) = (random([6, 8], DType::F32), random([5], DType::F32));
    let view = wide_rows.clone().slice([1..5, 2..7]);
    let copy = Tensor::<B, 2>::from_data(view.to_data(), &Default::default());
    let norm = |x: &Tensor<B, 2>| {
        tensor::<B, 2>(B::rms_norm(primitive(x.clone()), primitive(weight.clone()), 1e-5)).into_data()
    };
    assert_eq!(norm(&view), norm(&copy));
    let gate = |x: Tensor<B, 2>| tensor::<B, 2>(B::swiglu(primitive(x.clone()), primitive(x))).into_data();
    assert_eq!(gate(view.clone().transpose()), gate(copy.clone().transpose()));
    let start = wide_rows.slice([0..2, 0..8]);
    assert_eq!(gate(start.clone()), gate(Tensor::from_data(start.to_data(), &Default::default())));
    let step = |x: Tensor<B, 2>| {
        let flat = x.reshape([20]);
        B::adamw(flat.clone(), flat, None, STEP).0.into_data()
    };
    assert_eq!(step(view), step(copy));
}
