//! The attention operation against the textbook formula on the host, forward and backward.
#![cfg(feature = "flex")]

use std::sync::Arc;

use asft_data::Segment;
use asft_model::{AttentionLayout, Stream, attention::attend};
use burn::{
    backend::{Autodiff, Flex},
    tensor::{Tensor, TensorData},
};
use proptest::prelude::*;

type A = Autodiff<Flex>;

/// Output and gradients of q, k, v by the definition, f64, one head and one query at a time.
struct Textbook {
    out: Vec<f64>,
    grads: [Vec<f64>; 3],
}

struct Case {
    segments: Vec<Segment>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    values: [Vec<f32>; 4],
}

impl Case {
    fn tokens(&self) -> usize {
        self.segments.last().map_or(0, |segment| segment.start + segment.tokens())
    }

    /// Keys a query sees: of its own pair, its prompt and what comes before it in its own answer.
    fn visible(&self, query: usize) -> Vec<usize> {
        let segment =
            self.segments.iter().find(|s| (s.start..s.start + s.tokens()).contains(&query)).unwrap();
        let rejected = segment.rejected();
        (segment.start..=query)
            .filter(|key| !rejected.contains(&query) || !segment.chosen().contains(key))
            .collect()
    }

    fn textbook(&self) -> Textbook {
        let (group, dim) = (self.heads / self.kv_heads, self.head_dim);
        let [q, k, v, dout] =
            self.values.each_ref().map(|values| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        let mut result = Textbook {
            out: vec![0.0; q.len()],
            grads: [vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]],
        };
        let scale = 1.0 / (dim as f64).sqrt();
        for query in 0..self.tokens() {
            let keys = self.visible(query);
            for head in 0..self.heads {
                let q_at = (query * self.heads + head) * dim;
                let k_at = |key: usize| (key * self.kv_heads + head / group) * dim;
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|&key| scale * dot(&q[q_at..q_at + dim], &k[k_at(key)..k_at(key) + dim]))
                    .collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
                let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp() / sum).collect();
                let dweights: Vec<f64> = keys
                    .iter()
                    .map(|&key| dot(&dout[q_at..q_at + dim], &v[k_at(key)..k_at(key) + dim]))
                    .collect();
                let mean = dot(&weights, &dweights);
                for ((&key, weight), dweight) in keys.iter().zip(&weights).zip(&dweights) {
                    let dscore = scale * weight * (dweight - mean);
                    for d in 0..dim {
                        result.out[q_at + d] += weight * v[k_at(key) + d];
                        result.grads[0][q_at + d] += dscore * k[k_at(key) + d];
                        result.grads[1][k_at(key) + d] += dscore * q[q_at + d];
                        result.grads[2][k_at(key) + d] += weight * dout[q_at + d];
                    }
                }
            }
        }
        result
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let device = Default::default();
        let shape = |heads| [self.tokens(), heads, self.head_dim];
        let shapes = [shape(self.heads), shape(self.kv_heads), shape(self.kv_heads), shape(self.heads)];
        let tensor =
            |i: usize| Tensor::<A, 3>::from_data(TensorData::new(self.values[i].clone(), shapes[i]), &device);
        let [q, k, v] = [0, 1, 2].map(|i| tensor(i).require_grad());
        let stream = Stream::<A> {
            cos: Tensor::zeros([1, 1], &device),
            sin: Tensor::zeros([1, 1], &device),
            layout: Arc::new(AttentionLayout::of_pairs(&self.segments)),
            dropout: None,
        };
        let out = attend(q.clone(), k.clone(), v.clone(), &stream);
        let grads = (out.clone() * tensor(3)).backward();
        let expected = self.textbook();
        agree("out", out.into_data(), &expected.out, 1e-5)?;
        for ((name, input), expected) in [("dq", q), ("dk", k), ("dv", v)].into_iter().zip(&expected.grads) {
            agree(name, input.grad(&grads).unwrap().into_data(), expected, 1e-4)?;
        }
        Ok(())
    }
}

fn agree(name: &str, got: TensorData, expected: &[f64], tolerance: f64) -> Result<(), TestCaseError> {
    for (index, (got, expected)) in got.iter::<f64>().zip(expected).enumerate() {
        prop_assert!(
            (got - expected).abs() <= tolerance * expected.abs().max(1.0),
            "{name}[{index}]: {got} against {expected}"
        );
    }
    Ok(())
}

fn case(
    lengths: Vec<(usize, usize, usize)>,
    kv_heads: usize,
    group: usize,
    half_dim: usize,
    seed: u64,
) -> Case {
    let mut start = 0;
    let mut segments = vec![];
    for (prompt_tokens, chosen_tokens, rejected_tokens) in lengths {
        let segment = Segment { start, prompt_tokens, chosen_tokens, rejected_tokens };
        start += segment.tokens();
        segments.push(segment);
    }
    let (heads, head_dim) = (kv_heads * group, 2 * half_dim);
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 2.0
    };
    let values = [heads, kv_heads, kv_heads, heads]
        .map(|heads| (0..start * heads * head_dim).map(|_| uniform()).collect());
    Case { segments, heads, kv_heads, head_dim, values }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_layout_agrees_with_the_textbook(
        lengths in prop::collection::vec((1usize..12, 1usize..14, 0usize..14), 1..4),
        kv_heads in 1usize..3,
        group in 1usize..4,
        half_dim in 1usize..5,
        seed: u64,
    ) {
        case(lengths, kv_heads, group, half_dim, seed).check()?;
    }
}

/// Spans longer than a tile, ending on a tile's border, one before and one after it.
#[test]
fn tiles_meet_without_a_seam() {
    for lengths in [vec![(300, 280, 270)], vec![(1, 255, 256)], vec![(256, 1, 1), (257, 2, 511)]] {
        case(lengths, 1, 2, 2, 7).check().unwrap();
    }
}
