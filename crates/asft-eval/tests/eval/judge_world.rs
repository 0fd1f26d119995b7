//! A world for judge runs: items, a clock that only moves when somebody sleeps, and a judge that follows a script.

use std::{
    path::Path,
    sync::{Mutex, atomic::AtomicBool},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use asft_eval::judge::{
    Budget, Cache, Clock, Item, JudgeRun, Limits, Message, Next, NoResponse, Params, Reply, Response, Status,
    Transport,
};
use serde_json::{Value, json};

/// Asks for a rating, and as often as `attempts` says where a reply has none.
pub struct Rated {
    pub name: String,
    pub attempts: usize,
}

/// Items `item 0.`, `item 1.`, … of one attempt.
pub fn rated(count: usize) -> Vec<Rated> {
    (0..count).map(|index| Rated { name: format!("item {index}."), attempts: 1 }).collect()
}

impl Item for Rated {
    fn next(&self, replies: &[Reply]) -> Next {
        let ask = || {
            let mut messages =
                vec![Message::new("system", "Say [[rating]]."), Message::new("user", &self.name)];
            for reply in replies {
                messages.push(Message::new("assistant", reply.content.as_deref().unwrap_or_default()));
                messages.push(Message::new("user", "The rating, please."));
            }
            Next::Ask(messages)
        };
        let Some(last) = replies.last() else { return ask() };
        let text = last.content.as_deref().unwrap_or_default();
        match text.matches("[[").count() {
            1 => Next::Done(Status::Ok),
            0 if replies.len() < self.attempts => ask(),
            labels => Next::Done(Status::without_verdict(last, labels > 1)),
        }
    }
}

/// A clock that moves only when somebody sleeps.
#[derive(Default)]
pub struct VirtualClock(Mutex<Duration>);

impl Clock for VirtualClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(784_111_777) + self.elapsed()
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn sleep(&self, duration: Duration) {
        *self.0.lock().unwrap() += duration;
    }
}

/// What comes of a request.
pub type Sent = Result<Response, NoResponse>;

/// What comes of a request, by its number, from 0, and its body.
type Plot<'a> = dyn Fn(usize, &Value) -> Sent + Sync + 'a;

/// A judge that follows a script and notes when it was asked what.
pub struct Scripted<'a> {
    pub clock: &'a VirtualClock,
    pub script: Box<Plot<'a>>,
    pub seen: Mutex<Vec<(Duration, Value)>>,
}

impl<'a> Scripted<'a> {
    pub fn new(clock: &'a VirtualClock, script: impl Fn(usize, &Value) -> Sent + Sync + 'a) -> Self {
        Self { clock, script: Box::new(script), seen: Mutex::default() }
    }

    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Milliseconds between the starts of requests.
    pub fn gaps(&self) -> Vec<u128> {
        self.seen.lock().unwrap().windows(2).map(|pair| (pair[1].0 - pair[0].0).as_millis()).collect()
    }
}

impl Transport for Scripted<'_> {
    fn send(&self, body: &Value) -> Sent {
        let number = {
            let mut seen = self.seen.lock().unwrap();
            seen.push((self.clock.elapsed(), body.clone()));
            seen.len() - 1
        };
        (self.script)(number, body)
    }
}

pub fn response(status: u16, retry_after: Option<&str>, body: &str) -> Sent {
    Ok(Response { status, retry_after: retry_after.map(str::to_owned), body: body.as_bytes().to_vec() })
}

/// A reply with `message` as its message.
pub fn said(message: Value, finish_reason: &str) -> Sent {
    let body = json!({
        "choices": [{"message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    });
    response(200, None, &body.to_string())
}

pub fn rating(number: u32) -> Sent {
    said(json!({"content": format!("Rating: [[{number}]]")}), "stop")
}

pub fn params() -> Params {
    Params::from([("temperature".to_owned(), json!(0)), ("max_tokens".to_owned(), json!(100))])
}

/// What a run needs that lives longer than it.
pub struct World {
    pub clock: VirtualClock,
    pub directory: tempfile::TempDir,
    pub params: Params,
    pub budget: Budget,
    pub interrupt: AtomicBool,
}

impl World {
    pub fn new() -> Self {
        Self {
            clock: VirtualClock::default(),
            directory: tempfile::tempdir().unwrap(),
            params: params(),
            budget: Budget::default(),
            interrupt: AtomicBool::new(false),
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn cache(&self) -> Cache {
        Cache::open(self.path()).unwrap()
    }

    /// One worker, half the longest pause at every retry.
    pub fn run<'a>(&'a self, cache: &'a Cache, transport: Option<&'a dyn Transport>) -> JudgeRun<'a> {
        JudgeRun {
            judge: "judge",
            model: "judge-model",
            params: &self.params,
            cache,
            transport,
            parallel: 1,
            limits: Limits::default(),
            budget: &self.budget,
            reply_tokens: 20,
            max_attempts: 8,
            clock: &self.clock,
            jitter: &|| 0.5,
            observer: &(),
            interrupt: &self.interrupt,
        }
    }
}
