//! The learning rate of each step.

use crate::config::{ScheduleKind, ScheduleSettings};

/// Linear warm-up from 0, then the schedule's shape, as transformers' schedulers compute it: the first step
/// of a run with a warm-up has rate 0, and a falling shape would reach 0 one step after the last.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    kind: ScheduleKind,
    peak: f64,
    warmup_steps: usize,
    total_steps: usize,
}

impl Schedule {
    /// The schedule of a run of `total_steps`; the warm-up is rounded up to whole steps.
    pub fn new(settings: &ScheduleSettings, peak: f64, total_steps: usize) -> Self {
        let warmup_steps = (settings.warmup_ratio * total_steps as f64).ceil() as usize;
        Self { kind: settings.kind, peak, warmup_steps, total_steps }
    }

    /// Rate of a step, counted from 0.
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return self.peak * step as f64 / self.warmup_steps as f64;
        }
        let falling = (self.total_steps - self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f64 / falling as f64).min(1.0);
        self.peak
            * match self.kind {
                ScheduleKind::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
                ScheduleKind::Linear => 1.0 - progress,
                ScheduleKind::Constant => 1.0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// transformers 5: get_{cosine,linear,constant}_schedule_with_warmup(optimizer, 2, 6), peak 1, at steps 0..=6.
    #[test]
    fn rates_are_those_of_transformers() {
        let cases = [
            (
                ScheduleKind::Cosine,
                [0.0, 0.5, 1.0, 0.853_553_390_593_273_7, 0.5, 0.146_446_609_406_726_24, 0.0],
            ),
            (ScheduleKind::Linear, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]),
            (ScheduleKind::Constant, [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ];
        for (kind, expected) in cases {
            let settings = ScheduleSettings { kind, warmup_ratio: 0.3 };
            let schedule = Schedule::new(&settings, 1.0, 6);
            for (step, expected) in expected.into_iter().enumerate() {
                assert!(
                    (schedule.rate(step) - expected).abs() < 1e-15,
                    "{kind:?} step {step}: {}",
                    schedule.rate(step)
                );
            }
        }
    }

    #[test]
    fn a_run_that_is_all_warm_up_never_divides_by_zero() {
        let settings = ScheduleSettings { kind: ScheduleKind::Cosine, warmup_ratio: 1.0 };
        let schedule = Schedule::new(&settings, 2.0, 4);
        assert_eq!([0, 1, 2, 3, 4].map(|step| schedule.rate(step)), [0.0, 0.5, 1.0, 1.5, 2.0]);
    }
}
