//! What the stub answers to a request, and what it notes of it.

use std::{
    io::{BufReader, Write},
    net::TcpStream,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    FINGERPRINT, Script,
    http::{self, Answer},
    script::Step,
};
use crate::{
    EvalError,
    judge::{Cache, Entry, Message, Params, Reply, Usage, estimated_tokens, key, prompt_sha256},
    judge_behaviour::Behaviour,
};

/// Where the stub's replies come from.
#[derive(Debug)]
pub enum Replies {
    /// A cache: what was replied to the same messages, best by the same model with the same parameters.
    Replay(Vec<Entry>),
    /// A rule.
    Behave(Behaviour),
}

impl Replies {
    /// Those of a cache directory.
    ///
    /// # Errors
    /// If it cannot be read or has none.
    pub fn replay(directory: &Path) -> Result<Self, EvalError> {
        match Cache::read(directory)?.entries() {
            entries if entries.is_empty() => Err(EvalError::Input(format!(
                "{}: holds no replies\nhint: name the --cache of a run or an import",
                directory.display()
            ))),
            entries => Ok(Self::Replay(entries)),
        }
    }
}

/// What a stub answers, and where it writes what it did.
pub struct Service {
    replies: Replies,
    script: Script,
    log: Option<Mutex<Box<dyn Write + Send>>>,
    requests: AtomicU64,
}

#[derive(Deserialize)]
struct Asked {
    model: String,
    messages: Vec<Message>,
    #[serde(flatten)]
    params: Params,
}

/// An answer and what to say of it in the log.
struct Done {
    answer: Answer,
    did: String,
    prompt_sha256: Option<String>,
}

impl Done {
    fn new(answer: Answer, did: impl Into<String>) -> Self {
        Self { answer, did: did.into(), prompt_sha256: None }
    }

    fn refused(status: u16, code: &str, message: &str) -> Self {
        let body = json!({"error": {"message": message, "type": "invalid_request_error", "code": code}});
        Self::new(Answer::json(status, &body), code.replace('_', " "))
    }
}

impl Service {
    /// With replies, faults, and a log that gets one JSON object a request: `request` (its number from 1),
    /// `prompt_sha256`, `did` and `status`.
    #[must_use]
    pub fn new(replies: Replies, script: Script, log: Option<Box<dyn Write + Send>>) -> Self {
        Self { replies, script, log: log.map(Mutex::new), requests: AtomicU64::new(0) }
    }

    /// Answers what comes over a connection, until it ends.
    pub(super) fn converse(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        let mut open = true;
        while open && let Some(request) = http::read(&mut reader, stream)? {
            let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
            let done = match (request.method.as_str(), request.path.ends_with("/chat/completions")) {
                ("POST", true) => self.complete(&request.body, number),
                _ => Done::refused(404, "unknown_address", "only POST /v1/chat/completions is served"),
            };
            self.note(number, &done);
            std::thread::sleep(done.answer.delay);
            open = done.answer.write(stream)? && request.keep_alive;
        }
        Ok(())
    }

    fn complete(&self, body: &[u8], number: u64) -> Done {
        let Asked { model, messages, params } = match serde_json::from_slice(body) {
            Ok(asked) => asked,
            Err(error) => {
                return Done::refused(400, "bad_request", &format!("the body is no request: {error}"));
            }
        };
        let prompt = prompt_sha256(&messages);
        let step = self.script.step(number, &messages, &prompt);
        let usual = || self.usual(&model, &messages, &params, &prompt);
        let done = match step {
            None => usual(),
            Some((name, step)) => scripted(&name, &step, &model, &messages, usual),
        };
        Done { prompt_sha256: Some(prompt), ..done }
    }

    /// What is answered without a fault.
    fn usual(&self, model: &str, messages: &[Message], params: &Params, prompt: &str) -> Done {
        match &self.replies {
            Replies::Replay(entries) => match replayed(entries, model, messages, params, prompt) {
                Some(reply) => Done::new(Answer::json(200, &completion(&reply, model)), "replayed"),
                None => Done::refused(
                    404,
                    "unknown_prompt",
                    &format!("there is no recorded reply to the prompt {prompt}"),
                ),
            },
            Replies::Behave(behaviour) => match behaviour.reply(messages) {
                Ok(text) => {
                    let reply = spoken(Some(text), None, "stop", messages);
                    Done::new(Answer::json(200, &completion(&reply, model)), "behaved")
                }
                Err(message) => Done::refused(400, "bad_prompt", &message),
            },
        }
    }

    fn note(&self, number: u64, done: &Done) {
        let Some(log) = &self.log else { return };
        let row = json!({
            "request": number, "prompt_sha256": done.prompt_sha256, "did": done.did, "status": done.answer.status,
        });
        let mut log = log.lock().expect("no panic while it is held");
        if let Err(error) = writeln!(log, "{row}").and_then(|()| log.flush()) {
            tracing::warn!("the stub's log cannot be written: {error}");
        }
    }
}

/// The reply to these very messages, by whatever judge; that of another judge than is asked for becomes the stub's own.
/// An entry does not hold its messages, but its key tells whether these are they.
fn replayed(
    entries: &[Entry],
    model: &str,
    messages: &[Message],
    params: &Params,
    prompt: &str,
) -> Option<Reply> {
    let attempt = messages.iter().filter(|message| message.role == "assistant").count();
    let same = entries.iter().filter(|entry| {
        entry.prompt_sha256 == prompt && entry.key == key(&entry.judge, messages, &entry.params, attempt)
    });
    let nearness = |entry: &&Entry| (entry.judge == model, entry.params == *params);
    let Entry { judge, mut reply, .. } = same.max_by_key(nearness)?.clone();
    if judge != model {
        reply.system_fingerprint = Some(FINGERPRINT.to_owned());
    }
    Some(reply)
}

fn scripted(
    name: &str,
    step: &Step,
    model: &str,
    messages: &[Message],
    usual: impl FnOnce() -> Done,
) -> Done {
    let mut done = if let Some(status) = step.status {
        let default = json!({"error": {"message": "scripted", "type": "scripted"}});
        let answer = match &step.body {
            Some(Value::String(text)) => Answer::new(status, text.as_bytes()),
            body => Answer::json(status, body.as_ref().unwrap_or(&default)),
        };
        Done::new(answer, format!("status {status}"))
    } else if step.garbage {
        Done::new(Answer::new(200, b"<html>this is no JSON"), "garbage")
    } else if step.content.is_some() || step.refusal.is_some() {
        let finish = step.finish_reason.as_deref().unwrap_or("stop");
        let reply = spoken(step.content.clone().flatten(), step.refusal.clone(), finish, messages);
        let did = if step.refusal.is_some() { "refusal" } else { "content" };
        Done::new(Answer::json(200, &completion(&reply, model)), did)
    } else {
        usual()
    };
    done.answer.headers.extend(step.headers.clone());
    done.answer.delay = step.delay;
    done.answer.close_after = step.close_after_bytes;
    if !step.delay.is_zero() {
        done.did += &format!(" after {} ms", step.delay.as_millis());
    }
    if let Some(bytes) = step.close_after_bytes {
        done.did += &format!(", closed after {bytes} bytes");
    }
    done.did = format!("{name}: {}", done.did);
    done
}

/// A reply of the stub's own, with tokens counted at four characters each.
fn spoken(content: Option<String>, refusal: Option<String>, finish: &str, messages: &[Message]) -> Reply {
    let said = content.as_deref().or(refusal.as_deref()).unwrap_or_default();
    let usage = Usage {
        prompt_tokens: estimated_tokens(messages),
        completion_tokens: (said.chars().count() as u64).div_ceil(4),
    };
    Reply {
        usage: Some(usage),
        finish_reason: Some(finish.to_owned()),
        system_fingerprint: Some(FINGERPRINT.to_owned()),
        content,
        refusal,
        model: None,
    }
}

fn completion(reply: &Reply, model: &str) -> Value {
    let mut body = json!({
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": 0,
        "model": reply.model.as_deref().unwrap_or(model),
        "system_fingerprint": reply.system_fingerprint,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": reply.content, "refusal": reply.refusal},
            "finish_reason": reply.finish_reason,
        }],
    });
    if let Some(Usage { prompt_tokens, completion_tokens }) = reply.usage {
        body["usage"] = json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens.saturating_add(completion_tokens),
        });
    }
    body
}
