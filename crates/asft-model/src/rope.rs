//! Rotary position embedding (arXiv 2104.09864) in Hugging Face's half-split layout.

use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::{LlamaConfig, RopeScaling};

/// Angular frequency of each rotated plane, `[head_dim / 2]`, radians per position.
///
/// `llama3` scaling keeps high frequencies, divides low ones by `factor` and blends linearly between, by
/// wavelength against the original context length (Llama 3.1's rule, as transformers computes it).
pub fn inverse_frequencies(config: &LlamaConfig) -> Vec<f64> {
    frequencies(config.head_dim, config.rope_theta, &config.rope_scaling)
}

pub(crate) fn frequencies(head_dim: usize, theta: f64, scaling: &RopeScaling) -> Vec<f64> {
    let base = (0..head_dim / 2).map(|plane| theta.powf(-(2.0 * plane as f64) / head_dim as f64));
    match scaling {
        RopeScaling::None => base.collect(),
        RopeScaling::Linear { factor } => base.map(|frequency| frequency / factor).collect(),
        &RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            let context = original_max_position_embeddings as f64;
            let (long, short) = (context / low_freq_factor, context / high_freq_factor);
            base.map(|frequency| {
                let wavelength = std::f64::consts::TAU / frequency;
                if wavelength < short {
                    frequency
                } else if wavelength > long {
                    frequency / factor
                } else {
                    let smooth =
                        (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            })
            .collect()
        }
    }
}

/// Cosines and sines of `positions`, each `[tokens, head_dim / 2]`, f32.
pub fn tables<B: Backend>(
    frequencies: &[f64],
    positions: &[u32],
    device: &B::Device,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let angles = positions
        .iter()
        .flat_map(|&position| frequencies.iter().map(move |frequency| f64::from(position) * frequency));
    let (cos, sin): (Vec<f32>, Vec<f32>) =
        angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
    let shape = [positions.len(), frequencies.len()];
    (
        Tensor::from_data(TensorData::new(cos, shape), device),
        Tensor::from_data(TensorData::new(sin, shape), device),
    )
}

/// Rotates `x` `[tokens, heads, head_dim]` by the tables' angles: plane i is (x[i], x[i + head_dim / 2]).
pub fn rotate<B: Backend>(x: Tensor<B, 3>, cos: &Tensor<B, 2>, sin: &Tensor<B, 2>) -> Tensor<B, 3> {
    let [tokens, heads, head_dim] = x.dims();
    let half = head_dim / 2;
    assert_eq!(cos.dims(), [tokens, half], "rotary table against {tokens} tokens of head_dim {head_dim}");
    let dtype = x.dtype();
    let [cos, sin] = [cos, sin].map(|t| t.clone().unsqueeze_dim::<3>(1).cast(dtype));
    let first = x.clone().slice([0..tokens, 0..heads, 0..half]);
    let second = x.slice([0..tokens, 0..heads, half..head_dim]);
    Tensor::cat(
        vec![first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos + first * sin],
        2,
    )
}
