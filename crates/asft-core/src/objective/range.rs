//! Range checks of settings, with errors that name the key.

use crate::error::ConfigError;

/// Checks the keys of one objective's table.
pub(crate) struct Keys(pub &'static str);

impl Keys {
    /// Weights and strengths that may be switched off.
    pub fn at_least_zero(&self, key: &'static str, got: f64) -> Result<(), ConfigError> {
        self.require(key, got, got >= 0.0, "at least 0")
    }

    /// Scales that a loss divides by or vanishes with.
    pub fn above_zero(&self, key: &'static str, got: f64) -> Result<(), ConfigError> {
        self.require(key, got, got > 0.0, "above 0")
    }

    /// Shifts, which may have either sign.
    pub fn finite(&self, key: &'static str, got: f64) -> Result<(), ConfigError> {
        self.require(key, got, true, "")
    }

    /// Share or rate of swapped labels.
    pub fn label_smoothing(&self, got: f64) -> Result<(), ConfigError> {
        self.require("label_smoothing", got, (0.0..0.5).contains(&got), "at least 0 and below 0.5")
    }

    /// ASFT's τ.
    pub fn temperature(&self, got: f64) -> Result<(), ConfigError> {
        self.require("temperature", got, got > 0.0 && got <= 10.0, "above 0 and at most 10")
    }

    /// Start of the log-odds guard.
    pub fn eps(&self, got: f64) -> Result<(), ConfigError> {
        self.require("eps", got, (1e-6..=0.5).contains(&got), "from 1e-6 to 0.5")
    }

    fn require(
        &self,
        key: &'static str,
        got: f64,
        accepted: bool,
        must: &'static str,
    ) -> Result<(), ConfigError> {
        if !got.is_finite() {
            return Err(ConfigError { objective: self.0, key, must: "a finite number", got });
        }
        if accepted { Ok(()) } else { Err(ConfigError { objective: self.0, key, must, got }) }
    }
}
