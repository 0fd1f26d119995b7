//! Means with their uncertainty, and agreement of judges.

mod agreement;
mod by_question;
mod percentile;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

pub use agreement::{Disagreement, kappa, kendall_tau_b, least_squares, pearson, spearman};
pub use by_question::{BOOTSTRAP_ROUNDS, ByQuestion, FEW_QUESTIONS, Paired};
pub use percentile::percentile;

/// A mean and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its standard error; absent for one value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub se: Option<f64>,
    /// Half width of the 95% interval by Student's t; absent for one value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_width: Option<f64>,
    /// Values.
    pub n: usize,
}

impl Estimate {
    /// Mean of independent values with its standard error (sample variance over n); `None` without values.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        if n == 1 {
            return Some(Self { mean, se: None, half_width: None, n });
        }
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
        let se = (variance / n as f64).sqrt();
        Some(Self { mean, se: Some(se), half_width: Some(se * student_t975(n - 1)), n })
    }

    /// Whether 0 lies outside the interval; false where there is none.
    #[must_use]
    pub fn excludes_zero(&self) -> bool {
        self.half_width.is_some_and(|half_width| self.mean.abs() > half_width)
    }
}

/// The 97.5% point of Student's t distribution.
///
/// # Panics
/// If there are no degrees of freedom.
#[must_use]
pub fn student_t975(degrees_of_freedom: usize) -> f64 {
    StudentsT::new(0.0, 1.0, degrees_of_freedom as f64).expect("at least one").inverse_cdf(0.975)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (degrees, table) in [(1, 12.706), (2, 4.303), (9, 2.262), (99, 1.984)] {
            assert!((student_t975(degrees) - table).abs() < 5e-4, "{degrees}");
        }
    }

    #[test]
    fn estimates() {
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[2.0]), Some(Estimate { mean: 2.0, se: None, half_width: None, n: 1 }));
        // Values 1, 2, 6: mean 3, sample variance 7.
        let estimate = Estimate::of(&[1.0, 2.0, 6.0]).unwrap();
        assert_eq!((estimate.mean, estimate.n), (3.0, 3));
        assert!((estimate.se.unwrap() - (7.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!((estimate.half_width.unwrap() - 4.302_653 * (7.0f64 / 3.0).sqrt()).abs() < 1e-5);
        assert!(!estimate.excludes_zero());
        assert!(Estimate::of(&[1.0, 1.1, 1.2]).unwrap().excludes_zero());
    }
}
