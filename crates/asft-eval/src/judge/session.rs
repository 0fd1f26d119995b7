//! One item after another in one worker: from the cache, else by asking until there is a reply.

use std::{
    collections::HashSet,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;

use super::{
    Entry, Item, JudgeRun, Judgment, Message, Next, Recorded, Reply, Status, Transport, Usage,
    clock::unix_seconds,
    estimated_tokens, key,
    limits::Pacer,
    max_tokens, prompt_sha256,
    retry::{self, Consequence, Streak},
    wire,
};
use crate::EvalError;

/// What the workers of a run share.
pub(super) struct Session<'a> {
    run: &'a JudgeRun<'a>,
    pacer: Pacer,
    streak: Streak,
    stop: Mutex<Option<Stop>>,
    /// Keys that are being asked about.
    asking: Mutex<HashSet<String>>,
    answered: Condvar,
    requests: AtomicU64,
    /// Whether an interrupt kept a request from being sent.
    unasked: AtomicBool,
}

/// How a session ended.
pub(super) struct Ended {
    pub stopped: Option<String>,
    pub interrupted: bool,
    pub requests: u64,
}

/// Why a run ends early.
enum Stop {
    Hopeless(String),
    Cache(EvalError),
}

/// No reply was had.
struct Nothing {
    status: Status,
    error: Option<String>,
}

impl Nothing {
    fn api_error(error: impl Into<String>) -> Self {
        Self { status: Status::ApiError, error: Some(error.into()) }
    }
}

/// What is asked for an item.
struct Request {
    index: usize,
    prompt_tokens: u64,
    body: Value,
}

impl<'a> Session<'a> {
    pub fn new(run: &'a JudgeRun<'a>) -> Self {
        Self {
            run,
            pacer: Pacer::new(run.limits),
            streak: Streak::default(),
            stop: Mutex::default(),
            asking: Mutex::default(),
            answered: Condvar::new(),
            requests: AtomicU64::new(0),
            unasked: AtomicBool::new(false),
        }
    }

    /// How it ended, or what ended it that was not the judge's doing.
    pub fn end(self) -> Result<Ended, EvalError> {
        let stopped = match self.stop.into_inner().expect("no panic while it is held") {
            None => None,
            Some(Stop::Hopeless(why)) => Some(why),
            Some(Stop::Cache(error)) => return Err(error),
        };
        Ok(Ended {
            interrupted: stopped.is_none() && self.unasked.into_inner(),
            stopped,
            requests: self.requests.into_inner(),
        })
    }

    pub fn judge(&self, index: usize, item: &impl Item) -> Judgment {
        let mut entries = vec![];
        let mut replies = vec![];
        // Blank replies, which are kept only if the item does not end with one: those are asked for again.
        let mut blank = vec![];
        let (status, error) = loop {
            match item.next(&replies) {
                Next::Done(Status::Empty) => break (Status::Empty, None),
                Next::Done(status) => match self.keep(&mut blank) {
                    Ok(()) => break (status, None),
                    Err(Nothing { status, error }) => break (status, error),
                },
                Next::Ask(messages) => match self.obtain(index, &messages, replies.len(), &mut blank) {
                    Ok(entry) => {
                        replies.push(entry.reply.clone());
                        entries.push(entry);
                    }
                    Err(Nothing { status, error }) => break (status, error),
                },
            }
        };
        let replies = entries
            .into_iter()
            .map(|Entry { reply, created, source, .. }| Recorded { reply, created, source })
            .collect();
        Judgment { status, replies, error }
    }

    /// The reply from the cache, or else from the judge, and then into the cache.
    fn obtain(
        &self,
        index: usize,
        messages: &[Message],
        attempt: usize,
        blank: &mut Vec<Entry>,
    ) -> Result<Entry, Nothing> {
        let key = key(self.run.judge, messages, self.run.params, attempt);
        let Some(transport) = self.run.transport else {
            return self.run.cache.get(&key).ok_or(Nothing { status: Status::Missing, error: None });
        };
        // Items can share a request: the first asks, the others wait for its reply.
        let _claim = match self.claim(&key) {
            Ok(claim) => claim,
            Err(entry) => return Ok(*entry),
        };
        let request = Request {
            index,
            prompt_tokens: estimated_tokens(messages),
            body: wire::request(self.run.model, messages, self.run.params),
        };
        let entry = Entry {
            key,
            judge: self.run.judge.to_owned(),
            params: self.run.params.clone(),
            prompt_sha256: prompt_sha256(messages),
            reply: self.ask(transport, &request)?,
            source: Entry::FROM_API.to_owned(),
            created: unix_seconds(self.run.clock.now()),
        };
        blank.push(entry.clone());
        if Status::without_verdict(&entry.reply, false) != Status::Empty {
            self.keep(blank)?;
        }
        Ok(entry)
    }

    fn keep(&self, entries: &mut Vec<Entry>) -> Result<(), Nothing> {
        for entry in entries.drain(..) {
            if let Err(error) = self.run.cache.insert(entry) {
                let nothing = Nothing::api_error(error.to_string());
                self.stop(Stop::Cache(error));
                return Err(nothing);
            }
        }
        Ok(())
    }

    fn claim(&self, key: &str) -> Result<Claim<'_>, Box<Entry>> {
        let mut asking = self.asking.lock().expect("no panic while it is held");
        loop {
            if let Some(entry) = self.run.cache.get(key) {
                return Err(Box::new(entry));
            }
            if asking.insert(key.to_owned()) {
                return Ok(Claim { session: self, key: key.to_owned() });
            }
            asking = self.answered.wait(asking).expect("no panic while it is held");
        }
    }

    /// Asks until there is a reply, or there will be none.
    fn ask(&self, transport: &dyn Transport, request: &Request) -> Result<Reply, Nothing> {
        let run = self.run;
        let most = Usage {
            prompt_tokens: request.prompt_tokens,
            completion_tokens: max_tokens(run.params).unwrap_or(run.reply_tokens),
        };
        let expected = request.prompt_tokens + run.reply_tokens.min(most.completion_tokens);
        let mut tried = 0;
        loop {
            tried += 1;
            self.go_on()?;
            let Some(reservation) = run.budget.reserve(most) else {
                let error = Some("the spending limit is reached".to_owned());
                return Err(Nothing { status: Status::Budget, error });
            };
            self.wait_until(self.pacer.start(run.clock.elapsed(), expected))?;
            self.requests.fetch_add(1, Ordering::Relaxed);
            let failure = match retry::read(transport.send(&request.body), run.clock.now()) {
                Ok(reply) => {
                    if let Some(Usage { prompt_tokens, completion_tokens }) = reply.usage {
                        self.pacer.correct(expected, prompt_tokens.saturating_add(completion_tokens));
                    }
                    reservation.spend(reply.usage);
                    self.streak.end();
                    return Ok(reply);
                }
                Err(failure) => failure,
            };
            match failure.charged {
                true => reservation.spend(None),
                false => drop(reservation),
            }
            let message = failure.message;
            match failure.consequence {
                Consequence::Again(_) if tried >= run.max_attempts => {
                    return Err(Nothing::api_error(format!("{message} (after {tried} attempts)")));
                }
                Consequence::Again(after) => {
                    let pause = retry::pause(tried - 1, (run.jitter)(), after);
                    tracing::debug!("{message}; another attempt in {:.1} s", pause.as_secs_f64());
                    run.observer.retrying(request.index, &message, pause);
                    self.wait_until(run.clock.elapsed().saturating_add(pause))?;
                }
                Consequence::Fail { alike } => {
                    if alike && self.streak.add(&message) {
                        self.stop(Stop::Hopeless(format!(
                            "five requests in a row failed alike: {message}\nhint: check --judge-model and the \
                             settings judge.max_tokens_field, judge.temperature and judge.extra"
                        )));
                    }
                    return Err(Nothing::api_error(message));
                }
                Consequence::Stop(hint) => {
                    self.stop(Stop::Hopeless(format!("the judge's server refuses: {message}\nhint: {hint}")));
                    return Err(Nothing::api_error(message));
                }
            }
        }
    }

    /// The first reason counts.
    fn stop(&self, why: Stop) {
        self.stopped().get_or_insert(why);
    }

    fn stopped(&self) -> MutexGuard<'_, Option<Stop>> {
        self.stop.lock().expect("no panic while it is held")
    }

    /// Whether requests may still be sent.
    fn go_on(&self) -> Result<(), Nothing> {
        if self.stopped().is_some() {
            return Err(Nothing::api_error("not asked, as the run was stopped"));
        }
        if self.run.interrupt.load(Ordering::Relaxed) {
            self.unasked.store(true, Ordering::Relaxed);
            return Err(Nothing { status: Status::Missing, error: Some("interrupted".to_owned()) });
        }
        Ok(())
    }

    /// Sleeps in short pieces, so that a run ends soon when it has to.
    fn wait_until(&self, moment: Duration) -> Result<(), Nothing> {
        const PIECE: Duration = Duration::from_millis(100);
        loop {
            self.go_on()?;
            match moment.saturating_sub(self.run.clock.elapsed()) {
                Duration::ZERO => return Ok(()),
                rest => self.run.clock.sleep(rest.min(PIECE)),
            }
        }
    }
}

/// The right to ask about a key.
struct Claim<'a> {
    session: &'a Session<'a>,
    key: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // A panic elsewhere must not keep others waiting.
        let mut asking = self.session.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking.remove(&self.key);
        self.session.answered.notify_all();
    }
}
