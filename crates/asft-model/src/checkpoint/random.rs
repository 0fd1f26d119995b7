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
        // The name picks the stream, so that no tensor's values depend on the order of loading.
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(hash(name));
        // Box-Muller: two uniforms give two normals.
        let normals = std::iter::repeat_with(|| {
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            let angle = std::f64::consts::TAU * rng.random::<f64>();
            [radius * angle.cos(), radius * angle.sin()]
        });
        Ok(normals.flatten().take(length).map(|normal| (normal * self.standard_deviation) as f32).collect())
    }
}

/// FNV-1a of a tensor's name.
pub(crate) fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 2] = [200, 51];

    fn draw(seed: u64, names: &[&str]) -> Vec<Vec<f32>> {
        let mut weights = RandomWeights::new(seed, 0.02);
        names.iter().map(|name| weights.weight(name, &SHAPE).unwrap()).collect()
    }

    #[test]
    fn values_depend_on_seed_and_name_alone() {
        let forwards = draw(7, &["a.weight", "b.weight"]);
        let backwards = draw(7, &["b.weight", "a.weight"]);
        assert_eq!([&forwards[0], &forwards[1]], [&backwards[1], &backwards[0]]);
        assert_ne!(forwards[0], forwards[1], "other names");
        assert_ne!(forwards, draw(8, &["a.weight", "b.weight"]), "other seed");
    }

    #[test]
    fn matrices_are_normal_and_norms_one() {
        let values = draw(1, &["lm_head.weight"]).remove(0);
        let count = values.len() as f64;
        assert_eq!(values.len(), SHAPE[0] * SHAPE[1]);
        let moment = |power| values.iter().map(|&x| (f64::from(x) / 0.02).powi(power)).sum::<f64>() / count;
        // Moments of a standard normal: 0, 1, 0, 3. Bounds are five standard errors at 10,200 draws.
        for (power, expected, bound) in [(1, 0.0, 0.05), (2, 1.0, 0.07), (3, 0.0, 0.2), (4, 3.0, 0.5)] {
            assert!((moment(power) - expected).abs() < bound, "moment {power}: {}", moment(power));
        }
        let norm = RandomWeights::new(1, 0.02).weight("model.norm.weight", &[3]).unwrap();
        assert_eq!(norm, [1.0; 3]);
    }
}
