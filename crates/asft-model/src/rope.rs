//! Rotary position embedding (arXiv 2104.09864) in Hugging Face's half-split layout.

use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::{
    LlamaConfig, RopeScaling,
    ops::{LlamaBackend, primitive, tensor},
};

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
pub fn rotate<B: LlamaBackend>(x: Tensor<B, 3>, cos: &Tensor<B, 2>, sin: &Tensor<B, 2>) -> Tensor<B, 3> {
    let [tokens, _, head_dim] = x.dims();
    let half = head_dim / 2;
    assert_eq!(cos.dims(), [tokens, half], "rotary table against {tokens} tokens of head_dim {head_dim}");
    tensor(B::rotary(primitive(x), primitive(cos.clone()), primitive(sin.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by transformers 5.23.0, which computes in f32:
    /// ```python
    /// from transformers import LlamaConfig
    /// from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    /// rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
    ///         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    /// config = LlamaConfig(hidden_size=4096, num_attention_heads=32, rope_parameters=rope)
    /// print(*(f"{f:.8e}" for f in ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")[0].tolist()), sep=", ")
    /// ```
    #[rustfmt::skip]
    const LLAMA_3_1_8B: [f64; 64] = [
        1.00000000e0, 8.14617217e-1, 6.63601279e-1, 5.40580988e-1, 4.40366626e-1, 3.58730227e-1,
        2.92227834e-1, 2.38053814e-1, 1.93922758e-1, 1.57972813e-1, 1.28687382e-1, 1.04830950e-1,
        8.53971019e-2, 6.95659518e-2, 5.66696189e-2, 4.61640507e-2, 3.76060307e-2, 3.06345206e-2,
        2.49554086e-2, 2.03291047e-2, 1.65604409e-2, 1.34904198e-2, 1.09895291e-2, 8.95225909e-3,
        7.29266508e-3, 5.94073068e-3, 4.83942125e-3, 3.94227589e-3, 3.21144611e-3, 2.16657063e-3,
        1.37189368e-3, 8.56751460e-4, 5.24846022e-4, 3.12693650e-4, 1.78507791e-4, 9.55621217e-5,
        7.78465546e-5, 6.34151438e-5, 5.16590699e-5, 4.20823671e-5, 3.42810235e-5, 2.79259093e-5,
        2.27489290e-5, 1.85316694e-5, 1.50962178e-5, 1.22976389e-5, 1.00178686e-5, 8.16072770e-6,
        6.64786967e-6, 5.41546933e-6, 4.41153452e-6, 3.59371188e-6, 2.92749974e-6, 2.38479174e-6,
        1.94269251e-6, 1.58255079e-6, 1.28917316e-6, 1.05018262e-6, 8.55496921e-7, 6.96902532e-7,
        5.67708810e-7, 4.62465380e-7, 3.76732260e-7, 3.06892588e-7,
    ];

    #[test]
    fn llama_3_1_frequencies_are_those_of_transformers() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        let ours = frequencies(128, 500_000.0, &scaling);
        assert_eq!(ours.len(), LLAMA_3_1_8B.len());
        for (plane, (ours, theirs)) in ours.iter().zip(LLAMA_3_1_8B).enumerate() {
            assert!((ours - theirs).abs() < 1e-6 * theirs, "plane {plane}: {ours} against {theirs}");
        }
    }

    #[test]
    fn linear_scaling_divides_every_frequency() {
        // theta ^ (-2 i / 4) for i = 0, 1.
        assert_eq!(frequencies(4, 10_000.0, &RopeScaling::None), [1.0, 0.01]);
        assert_eq!(frequencies(4, 10_000.0, &RopeScaling::Linear { factor: 4.0 }), [0.25, 0.0025]);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn planes_are_made_of_both_halves_of_a_head() {
        use burn::backend::Flex;
        let device = Default::default();
        // Plane 0 turns by a quarter per position, plane 1 by a half.
        let turns = [std::f64::consts::FRAC_PI_2, std::f64::consts::PI];
        let (cos, sin) = tables::<Flex>(&turns, &[0, 1, 2], &device);
        let head = [1.0, 2.0, 3.0, 4.0];
        let x = Tensor::<Flex, 1>::from_floats(head, &device).reshape([1, 1, 4]).repeat_dim(0, 3);
        let rotated: Vec<f32> = rotate(x, &cos, &sin).into_data().to_vec().unwrap();
        let expected = [head, [-3.0, -2.0, 1.0, -4.0], [-1.0, 2.0, -3.0, 4.0]].concat();
        for (got, expected) in rotated.iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-5, "{rotated:?}");
        }
        assert_eq!(rotated.len(), expected.len());
    }
}
