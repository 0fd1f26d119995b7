//! Progress on standard error: a bar on a terminal, plain lines elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use asft_train::{Event, MetricsRow};
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::note;

/// Least time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// What the user sees while a run goes on.
pub struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    from: usize,
    started: Instant,
    last_line: Option<Instant>,
}

impl Progress {
    /// Progress of a run that has not started.
    pub fn new() -> Self {
        Self { bar: None, total: 0, from: 0, started: Instant::now(), last_line: None }
    }

    /// Shows an event.
    pub fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Referencing { done, total } => {
                self.line(done == total, || format!("reference model: {done}/{total} pairs"))
            }
            Event::Started { from, total } => self.start(from, total),
            Event::Step(row) => self.step(row),
            Event::Evaluating { done, total } => match &self.bar {
                Some(bar) => bar.set_message(format!("evaluating {done}/{total}")),
                None => self.line(done == total, || format!("evaluating: {done}/{total} pairs")),
            },
            Event::Evaluated(row) => {
                self.always(format!("held out after step {}: {}", row.step, quality(row)))
            }
            Event::Saved(path) => self.always(format!("checkpoint: {}", path.display())),
        }
    }

    fn start(&mut self, from: usize, total: usize) {
        (self.from, self.total, self.started) = (from, total, Instant::now());
        if from > 0 {
            self.always(format!("going on after step {from}"));
        }
        if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:11} {pos}/{len} [{elapsed} < {eta}] {wide_msg}")
                .expect("the template is well-formed");
            let bar = ProgressBar::new(total as u64).with_style(style).with_position(from as u64);
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(500));
            self.bar = Some(bar);
        }
    }

    fn step(&mut self, row: &MetricsRow) {
        if row.step == self.from + 1 {
            // The evaluation before the first step says nothing of how long steps take.
            self.started = Instant::now() - Duration::from_secs_f64(row.seconds);
            if let Some(bar) = &self.bar {
                bar.reset_eta();
            }
        }
        match &self.bar {
            Some(bar) => {
                bar.set_position(row.step as u64);
                bar.set_message(format!("{} {}", quality(row), speed(row)));
            }
            None => {
                let each = self.started.elapsed().as_secs_f64() / (row.step - self.from).max(1) as f64;
                let left = each * (self.total - row.step) as f64;
                let (step, total) = (row.step, self.total);
                self.line(step == total, || {
                    format!("step {step}/{total}: {} {} ETA {left:.0} s", quality(row), speed(row))
                });
            }
        }
    }

    /// A plain line, unless one was printed just before.
    fn line(&mut self, last: bool, text: impl FnOnce() -> String) {
        if last || self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            note!("{}", text());
            self.last_line = Some(Instant::now());
        }
    }

    fn always(&self, text: String) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => note!("{text}"),
        }
    }

    /// Leaves the terminal clean.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn quality(row: &MetricsRow) -> String {
    let part =
        |name: &str, value: Option<f64>| value.map_or(String::new(), |value| format!(" {name} {value:.3}"));
    let metrics = &row.metrics;
    format!(
        "loss {:.4}{}{}{}",
        metrics.loss,
        part("margin", metrics.margin),
        part("accuracy", metrics.accuracy),
        part("rewards margin", metrics.rewards_margin)
    )
}

fn speed(row: &MetricsRow) -> String {
    let communication = row
        .communication_share
        .map_or(String::new(), |share| format!(" {:.0}% communication", 100.0 * share));
    format!("{:.2} pairs/s {:.0} tokens/s{communication}", row.pairs_per_second, row.tokens_per_second)
}
