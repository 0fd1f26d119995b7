//! Has items judged, several at a time: what a run needs, and what becomes of it.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use super::{
    Budget, Cache, Clock, Item, Limits, Params, Reply, Spent, Status, Transport,
    session::{Ended, Session},
};
use crate::{EvalError, judged::Judged};

/// All that a run needs beside its items.
#[derive(Clone, Copy)]
pub struct JudgeRun<'a> {
    /// Stands for the judge in the cache's keys.
    pub judge: &'a str,
    /// The model that is asked for.
    pub model: &'a str,
    /// What is sent beside the messages.
    pub params: &'a Params,
    /// Holds the replies; must be open for writing unless `transport` is absent.
    pub cache: &'a Cache,
    /// Carries requests; without it only the cache answers.
    pub transport: Option<&'a dyn Transport>,
    /// Requests under way at a time.
    pub parallel: usize,
    /// Requests and tokens per minute.
    pub limits: Limits,
    /// Keeps account.
    pub budget: &'a Budget,
    /// Tokens of a reply, as expected.
    pub reply_tokens: u64,
    /// How often a request is sent before its item fails.
    pub max_attempts: u32,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Chance, from 0 up to 1.
    pub jitter: &'a (dyn Fn() -> f64 + Sync),
    /// Is told what happens.
    pub observer: &'a dyn Observer,
    /// Once set, no request is started, and those under way are waited for.
    pub interrupt: &'a AtomicBool,
}

/// Is told what happens in a run, by several threads.
pub trait Observer: Sync {
    /// The item of this index is through.
    fn finished(&self, index: usize, judgment: &Judgment) {
        let _ = (index, judgment);
    }

    /// The item of this index is asked about again after a pause.
    fn retrying(&self, index: usize, why: &str, pause: Duration) {
        let _ = (index, why, pause);
    }
}

/// Tells nobody.
impl Observer for () {}

/// A reply and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The reply.
    pub reply: Reply,
    /// When it was made, in seconds since 1970.
    pub created: f64,
    /// As in [`super::Entry::source`].
    pub source: String,
}

/// What became of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgment {
    /// What the item makes of its replies, or why one is missing.
    pub status: Status,
    /// The replies that were had, in order.
    pub replies: Vec<Recorded>,
    /// What went wrong where a reply was not had.
    pub error: Option<String>,
}

/// As judgment files keep it.
impl From<Judgment> for Judged {
    fn from(judgment: Judgment) -> Self {
        let last = judgment.replies.last();
        Self {
            status: judgment.status,
            created: last.map_or(0.0, |reply| reply.created),
            source: last.map(|reply| reply.source.clone()),
            replies: judgment.replies.into_iter().map(|recorded| recorded.reply).collect(),
            params: Params::new(),
        }
    }
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// One for each item, in their order.
    pub judgments: Vec<Judgment>,
    /// Why no further request would have succeeded, and what to do.
    pub stopped: Option<String>,
    /// Whether it was interrupted before all was asked.
    pub interrupted: bool,
    /// Requests that were sent.
    pub requests: u64,
    /// What they took.
    pub spent: Spent,
}

impl JudgeRun<'_> {
    /// Has the items judged.
    ///
    /// # Errors
    /// If the settings do not fit together, or a reply cannot be written to the cache. What a judge or the way to it
    /// does wrong is no error of a run but the status of an item.
    ///
    /// # Panics
    /// If an item or the observer panics.
    pub fn run<T: Item>(&self, items: &[T]) -> Result<Outcome, EvalError> {
        if self.parallel == 0 || self.max_attempts == 0 {
            return Err(EvalError::Input("--parallel and --max-attempts must be at least 1".to_owned()));
        }
        self.budget.check(self.params)?;
        let session = Session::new(self);
        let next = AtomicUsize::new(0);
        let worker = || {
            let mut judgments = vec![];
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(index) else { return judgments };
                let judgment = session.judge(index, item);
                self.observer.finished(index, &judgment);
                judgments.push((index, judgment));
            }
        };
        let mut judgments: Vec<(usize, Judgment)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.parallel.min(items.len())).map(|_| scope.spawn(worker)).collect();
            let done = workers.into_iter().map(|worker| worker.join());
            done.flat_map(|judgments| judgments.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        judgments.sort_by_key(|(index, _)| *index);
        let Ended { stopped, interrupted, requests } = session.end()?;
        Ok(Outcome {
            judgments: judgments.into_iter().map(|(_, judgment)| judgment).collect(),
            stopped,
            interrupted,
            requests,
            spent: self.budget.spent(),
        })
    }
}
