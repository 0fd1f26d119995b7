//! Requests and tokens per minute.

use std::{sync::Mutex, time::Duration};

use crate::EvalError;

/// How much may be asked of a judge in a minute; by default as much as it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    requests: Option<f64>,
    tokens: Option<f64>,
}

impl Limits {
    /// Limits per minute.
    ///
    /// # Errors
    /// If one is not above 0.
    pub fn per_minute(requests: Option<f64>, tokens: Option<f64>) -> Result<Self, EvalError> {
        for (option, name, limit) in [("--rpm", "requests", requests), ("--tpm", "tokens", tokens)] {
            if let Some(limit) = limit
                && !(limit > 0.0 && limit.is_finite())
            {
                return Err(EvalError::Input(format!(
                    "{option}: {limit} {name} per minute, where a number above 0 is needed\nhint: leave it away for no limit"
                )));
            }
        }
        Ok(Self { requests, tokens })
    }
}

/// Gives every request the moment at which it may start.
///
/// Each bucket holds no more than one request: quiet times are not saved up, so that no minute, wherever it begins,
/// sees more requests than are allowed, nor more tokens but for those of its last request.
#[derive(Debug)]
pub(super) struct Pacer {
    limits: Limits,
    /// When the buckets of requests and tokens are full again, in seconds of the clock.
    full: Mutex<[f64; 2]>,
}

impl Pacer {
    pub fn new(limits: Limits) -> Self {
        Self { limits, full: Mutex::default() }
    }

    /// When a request of about so many tokens may start.
    pub fn start(&self, now: Duration, tokens: u64) -> Duration {
        let mut full = self.full.lock().expect("no panic while it is held");
        let start = full.iter().fold(now.as_secs_f64(), |start, full| start.max(*full));
        let [requests, tokens] = self.costs(tokens as f64);
        *full = [start + requests, start + tokens];
        Duration::try_from_secs_f64(start).unwrap_or(Duration::MAX).max(now)
    }

    /// What the request really took.
    pub fn correct(&self, estimated: u64, used: u64) {
        let [_, more] = self.costs(used as f64 - estimated as f64);
        self.full.lock().expect("no panic while it is held")[1] += more;
    }

    /// Seconds in which the buckets fill again.
    fn costs(&self, tokens: f64) -> [f64; 2] {
        let seconds = |amount: f64, limit: Option<f64>| limit.map_or(0.0, |limit| amount * 60.0 / limit);
        [seconds(1.0, self.limits.requests), seconds(tokens, self.limits.tokens)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pacer(requests: Option<f64>, tokens: Option<f64>) -> Pacer {
        Pacer::new(Limits::per_minute(requests, tokens).unwrap())
    }

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn requests_are_spread_over_the_minute() {
        let pacer = pacer(Some(30.0), None);
        let starts: Vec<u64> = (0..4).map(|_| pacer.start(NOW, 9).as_secs()).collect();
        assert_eq!(starts, [100, 102, 104, 106]);
        // A quiet hour is not saved up.
        let later = NOW + Duration::from_secs(3600);
        assert_eq!(pacer.start(later, 9), later);
        assert_eq!(pacer.start(later, 9), later + Duration::from_secs(2));
    }

    #[test]
    fn tokens_are_taken_by_estimate_and_corrected() {
        let pacer = pacer(Some(600.0), Some(6000.0));
        assert_eq!(pacer.start(NOW, 1000).as_secs(), 100);
        assert_eq!(pacer.start(NOW, 1000).as_secs(), 110);
        pacer.correct(1000, 200);
        assert_eq!(pacer.start(NOW, 0).as_secs(), 112);
        pacer.correct(0, 300);
        assert_eq!(pacer.start(NOW, 0).as_secs(), 115);
    }

    #[test]
    fn without_limits_all_start_at_once() {
        let pacer = pacer(None, None);
        assert!((0..3).all(|_| pacer.start(NOW, u64::MAX) == NOW));
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Limits::per_minute(None, Some(wrong)).unwrap_err().to_string().contains("tokens"));
        }
    }
}
