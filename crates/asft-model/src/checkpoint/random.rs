//! Freshly initialised weights, as transformers draws them.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::WeightSource;
use crate::ModelError;

/// Matrices from a normal distribution around 0, norm weights 1. A tensor's values depend on the seed and
/// its name alone.
pub struct RandomWeights {
    seed: u64,
    standard_deviation: f64,
}

impl RandomWeights {
    /// Weights drawn with `standard_deviation` (`initializer_range` in a config).
    pub fn new(seed: u64, standard_deviation: f64) -> Self {
        Self { seed, standard_deviation }
    }
}

impl WeightSource for RandomWeights {
    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let length = shape.iter().product();
        if shape.len() == 1 {
            return Ok(vec![1.0; length]);
        }
        // FNV-1a of the name picks the stream, so that no tensor's values depend on the order of loading.
        let stream = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream);
        // Box-Muller: two uniforms give two normals.
        let normals = std::iter::repeat_with(|| {
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            let angle = std::f64::consts::TAU * rng.random::<f64>();
            [radius * angle.cos(), radius * angle.sin()]
        });
        Ok(normals.flatten().take(length).map(|normal| (normal * self.standard_deviation) as f32).collect())
    }
}
