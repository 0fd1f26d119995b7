//! The kernels on wgpu against the definitions on Flex. Tensor cores are not among what wgpu has; what they multiply is
//! laid out as for the units here, so sizes of tiles that only they use are tried too.

use std::sync::Arc;

use burn::{
    backend::{Flex, Wgpu},
    tensor::{Distribution, Tensor, backend::Backend},
};
use cubecl::{Runtime, calculate_cube_count_elemwise, prelude::*, wgpu::WgpuRuntime};

use super::{
    adamw::{chance, rounded},
    attention::{backward_with, forward_with, tiling::Tiling},
};
use crate::{
    AttentionLayout, LlamaBackend, Span, WeightType,
    ops::{self, AdamWState, AdamWStep, AttentionInputs, primitive, tensor},
};

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Default::default())
}

fn moved<From: Backend, To: Backend, const D: usize>(values: Tensor<From, D>) -> Tensor<To, D> {
    Tensor::from_data(values.into_data(), &Default::default())
}

#[track_caller]
fn close<const D: usize>(name: &str, got: Tensor<Wgpu, D>, expected: Tensor<Flex, D>, tolerance: f64) {
    assert_eq!(got.dims(), expected.dims(), "{name}");
    let values = got.into_data().iter::<f64>().zip(expected.into_data().iter::<f64>()).collect::<Vec<_>>();
    for (index, (got, expected)) in values.into_iter().enumerate() {
        let allowed = tolerance * expected.abs().max(1.0);
        assert!((got - expected).abs() <= allowed, "{name}[{index}]: {got} against {expected}");
    }
}

/// A stream of pairs whose prompts, chosen and rejected answers have these lengths.
fn pairs(lengths: &[[usize; 3]]) -> Arc<AttentionLayout> {
    let mut end = 0;
    let spans = lengths.iter().flat_map(|[prompt, chosen, rejected]| {
        let (start, middle) = (end, end + prompt + chosen);
        end = middle + rejected;
        let prefix = start..start + prompt;
        [Span { prefix: start..start, own: start..middle }, Span { prefix, own: middle..end }]
    });
    Arc::new(AttentionLayout::new(spans.filter(|span| !span.own.is_empty()).collect()))
}

fn layouts() -> Vec<Arc<AttentionLayout>> {
    let span = |prefix, own| Span { prefix, own };
    vec![
        // One token.
        pairs(&[[0, 1, 0]]),
        // Answers of one token behind each other, and behind no prompt.
        pairs(&[[1, 1, 1], [0, 1, 1], [0, 2, 1]]),
        // Tiles that end with spans, and that do not; a prompt that is longer than a tile.
        pairs(&[[16, 16, 32], [37, 3, 19], [5, 40, 7]]),
        // More than one tile of every size.
        pairs(&[[70, 75, 9]]),
        // Prefixes that are no prompts: of several spans, and in the middle of them.
        Arc::new(AttentionLayout::new(vec![span(0..0, 0..21), span(3..20, 21..30), span(18..25, 30..70)])),
    ]
}

/// Attention of all layouts with these heads, key heads and numbers a head, in tiles of the given sizes, or of those
/// that the device gets.
fn attention_is_the_definition(heads: usize, kv_heads: usize, dim: usize, tiles: Option<[usize; 2]>) {
    for layout in layouts() {
        let tokens = layout.tokens();
        let rows = |heads| random([tokens, heads, dim]);
        let [q, k, v, grad] = [heads, kv_heads, kv_heads, heads].map(rows);
        let scale = 1.0 / (dim as f64).sqrt();
        let [a, b, c, d] = [&q, &k, &v, &grad].map(|t| primitive(t.clone()));
        let inputs = AttentionInputs::<Flex> { q: a, k: b, v: c, layout: layout.clone(), scale };
        let (out, lse) = ops::tiled_attention::forward::<Flex>(inputs.clone());
        let gradients = ops::tiled_attention::backward::<Flex>(inputs, out.clone(), lse.clone(), d);

        let [a, b, c, d] = [q, k, v, grad].map(|t| primitive(moved::<Flex, Wgpu, 3>(t)));
        let inputs = AttentionInputs::<Wgpu> { q: a, k: b, v: c, layout, scale };
        let tiling =
            tiles.map(|[queries, keys]| Tiling { heads, kv_heads, dim, queries, keys, tensor_cores: false });
        let (got_out, got_lse) = match tiling {
            Some(tiling) => forward_with(inputs.clone(), tiling),
            None => Wgpu::packed_attention_forward(inputs.clone()),
        };
        let got = match tiling {
            Some(tiling) => backward_with(inputs, got_out.clone(), got_lse.clone(), d, [tiling; 2]),
            None => Wgpu::packed_attention_backward(inputs, got_out.clone(), got_lse.clone(), d),
        };
        close("out", tensor::<Wgpu, 3>(got_out), tensor(out), 1e-5);
        close("lse", tensor::<Wgpu, 2>(got_lse), tensor(lse), 1e-5);
        for ((name, got), expected) in ["dq", "dk", "dv"].into_iter().zip(got).zip(gradients) {
            close(name, tensor::<Wgpu, 3>(got), tensor(expected), 1e-4);
        }
    }
}

#[test]
fn attention_with_shared_keys_is_the_definition() {
    attention_is_the_definition(4, 2, 8, None);
}

#[test]
fn attention_of_heads_that_are_no_whole_tiles_is_the_definition() {
    attention_is_the_definition(3, 1, 22, None);
}

#[test]
fn attention_in_small_tiles_is_the_definition() {
    attention_is_the_definition(2, 1, 64, Some([16, 16]));
}

#[test]
fn attention_in_tiles_of_the_tensor_cores_is_the_definition() {
    attention_is_the_definition(2, 2, 16, Some([64, 16]));
    attention_is_the_definition(2, 1, 16, Some([16, 64]));
}

#[test]
fn attention_repeats_its_bits() {
    let layout = pairs(&[[16, 16, 32], [37, 3, 19]]);
    let rows = |heads| primitive(moved::<Flex, Wgpu, 3>(random([layout.tokens(), heads, 8])));
    let [q, k, v, grad] = [4, 2, 2, 4].map(rows);
    let inputs = AttentionInputs::<Wgpu> { q, k, v, layout, scale: 0.3 };
    let run = || {
        let (out, lse) = Wgpu::packed_attention_forward(inputs.clone());
        let gradients =
            Wgpu::packed_attention_backward(inputs.clone(), out.clone(), lse.clone(), grad.clone());
        let [dq, dk, dv] = gradients.map(|t| tensor::<Wgpu, 3>(t).into_data());
        (tensor::<Wgpu, 3>(out).into_data(), tensor::<Wgpu, 2>(lse).into_data(), dq, dk, dv)
    };
    assert_eq!(run(), run());
}

fn numbers(t: i32) -> AdamWStep {
    let betas = [0.9f64, 0.99];
    AdamWStep {
        betas,
        corrections: betas.map(|beta| 1.0 - beta.powi(t)),
        eps: 1e-6,
        rate: 1e-2,
        decay: 0.1,
        scale: 0.7,
        state_type: WeightType::F32,
        rounding_seed: 5,
    }
}

#[test]
fn adamw_is_the_definition() {
    for length in [1, 255, 256, 3001] {
        let (start, gradient) = (random([length]), random([length]));
        let mut expected = (start.clone(), None::<AdamWState<Flex>>);
        let mut got = (moved::<Flex, Wgpu, 1>(start), None::<AdamWState<Wgpu>>);
        for t in 1..=3 {
            let (value, state) = ops::adamw::step(expected.0, gradient.clone(), expected.1, numbers(t));
            expected = (value, Some(state));
            let (value, state) = Wgpu::adamw(got.0, moved(gradient.clone()), got.1, numbers(t));
            got = (value, Some(state));
        }
        let (got_state, state) = (got.1.unwrap(), expected.1.unwrap());
        close("value", got.0, expected.0, 1e-6);
        close("first", got_state.first, state.first, 1e-6);
        close("second", got_state.second, state.second, 1e-6);
    }
}

/// What others still hold is not what a step writes to.
#[test]
fn adamw_leaves_others_their_tensors() {
    let start = random([100]);
    let value = moved::<Flex, Wgpu, 1>(start.clone());
    let gradient = moved::<Flex, Wgpu, 1>(random([100]));
    let (first_value, state) = Wgpu::adamw(value.clone(), gradient.clone(), None, numbers(1));
    close("what was given", value, start.clone(), 0.0);
    let kept = state.clone();
    let before = [&kept.first, &kept.second].map(|moment| moment.clone().into_data());
    let (second_value, _) = Wgpu::adamw(first_value.clone(), gradient, Some(state), numbers(2));
    assert_eq!([kept.first, kept.second].map(Tensor::into_data), before);
    assert_ne!(first_value.into_data(), second_value.into_data());
}

#[cube(launch)]
fn round_all(values: &Array<f32>, out: &mut Array<f32>, low: u32, high: u32) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = rounded(values[ABSOLUTE_POS], chance(ABSOLUTE_POS as u32, low, high));
    }
}

/// Values rounded by the chance that a seed gives to their places.
fn round(values: &[f32], seed: u64) -> Vec<f32> {
    let client = WgpuRuntime::client(&Default::default());
    let values = Tensor::<Wgpu, 1>::from_floats(values, &Default::default());
    let out = values.zeros_like();
    let count = values.dims()[0];
    let units = CubeDim::new_1d(64);
    round_all::launch::<WgpuRuntime>(
        &client,
        calculate_cube_count_elemwise(&client, count, units),
        units,
        primitive(values).into_array_arg(),
        primitive(out.clone()).into_array_arg(),
        seed as u32,
        (seed >> 32) as u32,
    );
    out.into_data().to_vec().unwrap()
}

#[test]
fn rounding_gives_neighbours_whose_mean_is_the_value() {
    const DRAWS: usize = 40_000;
    for value in [1.0f32, 1.001, -1.001, 0.333_333_3, -1e-20, 1.999, 65_535.0, 0.0, 3.1e-3] {
        let rounded = round(&[value; DRAWS], 0x1234_5678_9abc_def0);
        for rounded in &rounded {
            let distance = (rounded - value).abs();
            assert!(distance < value.abs() / 128.0 || distance == 0.0, "{value} became {rounded}");
            assert_eq!(rounded.to_bits() & 0xffff, 0, "{value} became {rounded}");
        }
        let mean = rounded.iter().map(|value| f64::from(*value)).sum::<f64>() / DRAWS as f64;
        let value = f64::from(value);
        // Five standard errors of a mean whose draws are at most one spacing apart.
        let allowed = 5.0 * value.abs() / 128.0 / 2.0 / (DRAWS as f64).sqrt();
        assert!((mean - value).abs() <= allowed, "{value}: {mean}");
    }
}

#[test]
fn rounding_depends_on_both_halves_of_the_seed_and_spares_what_is_not_finite() {
    let values = vec![1.003f32; 500];
    let drawn = |seed| round(&values, seed);
    assert_eq!(drawn(7), drawn(7));
    assert_ne!(drawn(7), drawn(8));
    assert_ne!(drawn(7), drawn(7 + (1 << 32)));
    let infinite = [f32::INFINITY, f32::NEG_INFINITY];
    assert_eq!(round(&infinite, 3), infinite);
}
