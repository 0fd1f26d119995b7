//! Adapters before their first step.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::PEFT_SUFFIXES;
use crate::{
    ModelError,
    checkpoint::{WeightSource, hash},
};

/// Factors as PEFT draws them, so that the adapted model starts as the base model: `A` by
/// `kaiming_uniform_(a = sqrt(5))`, which is uniform between `±1 / sqrt(in)`, and `B` zero. A factor depends on
/// the seed and its name alone.
pub struct FreshAdapter {
    seed: u64,
}

impl FreshAdapter {
    /// Factors drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }
}

impl WeightSource for FreshAdapter {
    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let length = shape.iter().product();
        if name.ends_with(PEFT_SUFFIXES[1]) {
            return Ok(vec![0.0; length]);
        }
        let bound = 1.0 / (shape[1] as f64).sqrt();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(hash(name));
        Ok((0..length).map(|_| (bound * (2.0 * rng.random::<f64>() - 1.0)) as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_drawn_as_peft_draws_them() {
        let name = |module: &str, factor: usize| format!("{module}{}", PEFT_SUFFIXES[factor]);
        let mut fresh = FreshAdapter::new(3);
        let mut draw = |name: &str| fresh.weight(name, &[64, 100]).unwrap();
        assert!(draw(&name("a", 1)).iter().all(|&value| value == 0.0));
        let values = draw(&name("a", 0));
        assert_ne!(values, draw(&name("b", 0)));
        assert_eq!(values, draw(&name("a", 0)));
        assert_ne!(values, FreshAdapter::new(4).weight(&name("a", 0), &[64, 100]).unwrap());
        // Uniform in ±0.1: mean 0, variance 0.01 / 3; bounds are five standard errors at 6,400 draws.
        let mean = |power| values.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / 6400.0;
        assert!(values.iter().all(|value| value.abs() <= 0.1));
        assert!(mean(1).abs() < 5.0 * 0.1 / 3f64.sqrt() / 80.0, "{}", mean(1));
        assert!((mean(2) - 0.01 / 3.0).abs() < 5.0 * 0.01 * (4.0 / 45.0f64).sqrt() / 80.0, "{}", mean(2));
    }
}
