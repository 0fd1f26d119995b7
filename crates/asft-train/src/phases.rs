//! Where the time of a step goes.

use std::{collections::BTreeMap, time::Instant};

use burn::tensor::backend::Backend;

/// Seconds by phase, once timing is turned on.
#[derive(Debug, Default)]
pub struct Phases {
    seconds: Option<BTreeMap<&'static str, f64>>,
}

impl Phases {
    /// Phases that are timed. The device is waited for at the end of each, which costs a little.
    pub fn timed() -> Self {
        Self { seconds: Some(BTreeMap::new()) }
    }

    /// Does `work` and adds its time to `phase`.
    pub fn time<B: Backend, R>(
        &mut self,
        phase: &'static str,
        device: &B::Device,
        work: impl FnOnce() -> R,
    ) -> R {
        let Some(seconds) = &mut self.seconds else { return work() };
        let started = Instant::now();
        let result = work();
        // A device that has failed says so where the result is read.
        let _ = B::sync(device);
        *seconds.entry(phase).or_default() += started.elapsed().as_secs_f64();
        result
    }

    /// Seconds so far by phase; `None` where nothing is timed.
    pub fn seconds(&self) -> Option<&BTreeMap<&'static str, f64>> {
        self.seconds.as_ref()
    }
}
