//! Time and chance, which tests replace.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// What time it is, and waiting.
pub trait Clock: Sync {
    /// The time of day.
    fn now(&self) -> SystemTime;
    /// Time since some moment in the past; never goes back.
    fn elapsed(&self) -> Duration;
    /// Waits.
    fn sleep(&self, duration: Duration);
}

/// The system's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// One whose `elapsed` begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A random number from 0 up to 1, good enough to spread retries.
#[must_use]
pub fn jitter() -> f64 {
    // Every RandomState has other keys. A double holds 53 bits.
    (RandomState::new().hash_one(()) >> 11) as f64 / (1u64 << 53) as f64
}

/// Seconds since 1970, to the microsecond, as files hold them.
pub(super) fn unix_seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_spread() {
        let draws: Vec<f64> = (0..1000).map(|_| jitter()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / 1000.0;
        // Six standard errors.
        assert!((mean - 0.5).abs() < 6.0 * (1.0f64 / 12_000.0).sqrt(), "{mean}");
    }
}
