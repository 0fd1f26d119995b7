//! Replies on disk: one file of JSON Lines that only grows (EVALUATION §6.5).

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Message, Params, Reply, canonical::canonical, lock::lock, stub};
use crate::{EvalError, files, jsonl, sha256::sha256_hex};

/// A reply that was had, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`key`] of the request.
    pub key: String,
    /// Id of the judge.
    pub judge: String,
    /// What was sent beside the messages.
    pub params: Params,
    /// [`prompt_sha256`] of the messages.
    pub prompt_sha256: String,
    /// The reply.
    pub reply: Reply,
    /// Where it is from: [`Entry::FROM_API`], or the file of an import.
    pub source: String,
    /// When it was made, in seconds since 1970.
    pub created: f64,
}

impl Entry {
    /// The source of replies that a server gave to this program.
    pub const FROM_API: &'static str = "api";

    /// The entry of a reply from elsewhere, say an import; `attempt` as in [`key`].
    pub fn new(
        judge: impl Into<String>,
        messages: &[Message],
        params: Params,
        attempt: usize,
        reply: Reply,
        source: impl Into<String>,
        created: f64,
    ) -> Self {
        let judge = judge.into();
        Self {
            key: key(&judge, messages, &params, attempt),
            prompt_sha256: prompt_sha256(messages),
            source: source.into(),
            judge,
            params,
            reply,
            created,
        }
    }

    /// Whether a stub's reply would pass for that of another judge.
    fn is_misnamed(&self) -> bool {
        self.reply.system_fingerprint.as_deref() == Some(stub::FINGERPRINT) && !stub::is_stub(&self.judge)
    }
}

/// The hash under which the reply to a request is kept: of judge, messages, parameters and the number of the
/// attempt. The first request for an item is attempt 0; each one after a reply without a verdict is one more.
#[must_use]
pub fn key(judge: &str, messages: &[Message], params: &Params, attempt: usize) -> String {
    let request = json!({"judge": judge, "messages": messages, "params": params, "attempt": attempt});
    sha256_hex(&canonical(&request))
}

/// The hash of a prompt: of the first user message. All attempts at an item share it.
#[must_use]
pub fn prompt_sha256(messages: &[Message]) -> String {
    let user = messages.iter().find(|message| message.role == "user");
    sha256_hex(user.map_or("", |message| &message.content))
}

/// The replies of a directory.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// In the order in which their keys first came.
    entries: Vec<Entry>,
    places: HashMap<String, usize>,
    writer: Option<Writer>,
}

#[derive(Debug)]
struct Writer {
    file: File,
    /// Bytes of whole lines.
    length: u64,
    /// Locked as long as this lives.
    _lock: File,
}

const FILE: &str = "replies.jsonl";

impl Cache {
    /// Opens or makes a cache to read and write.
    ///
    /// # Errors
    /// If another process writes it, it cannot be read or written, or a line is no entry. The last line is cut off
    /// with a warning if its writing was cut short.
    pub fn open(directory: &Path) -> Result<Self, EvalError> {
        files::make_folder(directory)?;
        let lock = lock(directory)?;
        let path = directory.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(EvalError::io(&path))?;
        let mut bytes = vec![];
        file.read_to_end(&mut bytes).map_err(EvalError::io(&path))?;
        let (mut state, whole) = State::parse(&path, &bytes)?;
        let mend = || {
            if whole < bytes.len() {
                file.set_len(whole as u64)?;
            } else if !bytes.is_empty() && !bytes.ends_with(b"\n") {
                file.write_all(b"\n")?;
            }
            file.sync_all()?;
            files::sync_folder(directory)?;
            file.metadata()
        };
        let length = { mend }().map_err(EvalError::io(&path))?.len();
        state.writer = Some(Writer { file, length, _lock: lock });
        Ok(Self { path, state: Mutex::new(state) })
    }

    /// Reads a cache that may be in use, or not there yet; nothing can be added.
    ///
    /// # Errors
    /// If it cannot be read, or a line is no entry; the last line is passed over with a warning if its writing was
    /// cut short.
    pub fn read(directory: &Path) -> Result<Self, EvalError> {
        files::check_folder(directory)?;
        let path = directory.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![],
            Err(error) => return Err(EvalError::io(path)(error)),
        };
        let (state, _) = State::parse(&path, &bytes)?;
        Ok(Self { path, state: Mutex::new(state) })
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Entry> {
        let state = self.state();
        state.places.get(key).map(|place| state.entries[*place].clone())
    }

    /// All entries, one a key, in the order in which their keys first came.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.state().entries.clone()
    }

    /// Adds an entry, which is on disk when this returns, and gives the one it replaces. An entry that is there
    /// already is not written again.
    ///
    /// # Errors
    /// If it cannot be written, and then nothing of it is; if the cache was opened to be read only; or if it is a stub's
    /// reply under the name of another judge.
    pub fn insert(&self, entry: Entry) -> Result<Option<Entry>, EvalError> {
        if entry.is_misnamed() {
            return Err(EvalError::Input(format!(
                "--judge-model {}: a stub answers for it, whose replies would pass for those of that judge\nhint: call the \
                 judge stub, or stub-NAME",
                entry.judge
            )));
        }
        let state = &mut *self.state();
        let old = state.places.get(&entry.key).map(|place| state.entries[*place].clone());
        if old.as_ref() == Some(&entry) {
            return Ok(old);
        }
        let writer = state.writer.as_mut().ok_or_else(|| {
            EvalError::Run(format!("{}: was opened to be read, not written", self.path.display()))
        })?;
        writer.append(&jsonl::lines(&[&entry], false)).map_err(EvalError::io(&self.path))?;
        state.place(entry);
        Ok(old)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }
}

impl Writer {
    fn append(&mut self, line: &str) -> std::io::Result<()> {
        let written = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.flush())
            .and_then(|()| self.file.sync_all());
        match written {
            Ok(()) => self.length += line.len() as u64,
            // Half a line would spoil the next one.
            Err(_) => self.file.set_len(self.length)?,
        }
        written
    }
}

impl State {
    /// The entries, and the number of bytes that belong to whole lines.
    fn parse(path: &Path, bytes: &[u8]) -> Result<(Self, usize), EvalError> {
        let mut state = Self { entries: vec![], places: HashMap::new(), writer: None };
        let (mut whole, mut misnamed) = (0, 0);
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            if !line.trim_ascii().is_empty() {
                match entry(path, index + 1, line) {
                    Ok(entry) if entry.is_misnamed() => misnamed += 1,
                    Ok(entry) => state.place(entry),
                    Err(_) if !line.ends_with(b"\n") => {
                        tracing::warn!(
                            "{}:{}: the last line was cut short and is dropped",
                            path.display(),
                            index + 1
                        );
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            whole += line.len();
        }
        if misnamed > 0 {
            tracing::warn!(
                "{}: {misnamed} replies of a stub stand under the name of another judge and do not count",
                path.display()
            );
        }
        Ok((state, whole))
    }

    /// The last entry of a key counts.
    fn place(&mut self, entry: Entry) {
        match self.places.get(&entry.key) {
            Some(place) => self.entries[*place] = entry,
            None => {
                self.places.insert(entry.key.clone(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }
}

fn entry(path: &Path, row: usize, line: &[u8]) -> Result<Entry, EvalError> {
    let value = serde_json::from_slice(line).map_err(|error| {
        EvalError::row(
            path,
            row,
            format!("is no JSON: {error}\nhint: delete the line; its reply is asked for again"),
        )
    })?;
    jsonl::row_as(path, row, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, content: &str) -> Entry {
        Entry {
            key: key.to_owned(),
            judge: "judge".to_owned(),
            params: Params::from([("temperature".to_owned(), json!(0))]),
            prompt_sha256: "p".to_owned(),
            reply: Reply { content: Some(content.to_owned()), ..Reply::default() },
            source: Entry::FROM_API.to_owned(),
            created: 1.25,
        }
    }

    fn text(directory: &Path) -> String {
        std::fs::read_to_string(directory.join(FILE)).unwrap()
    }

    #[test]
    fn keys_are_those_of_the_canonical_request() {
        let messages = [Message::new("system", "é\n"), Message::new("user", "\"hi\"")];
        let params = |temperature| {
            Params::from([("temperature".to_owned(), temperature), ("max_tokens".to_owned(), json!(2048))])
        };
        // Computed with Python's json and hashlib.
        let known = "202376f06cdaee18acb52b1c6bae46828c5a1994f394e4c313912247c031951c";
        assert_eq!(key("gpt-4", &messages, &params(json!(0)), 0), known);
        assert_eq!(key("gpt-4", &messages, &params(json!(0.0)), 0), known);
        assert_ne!(key("gpt-4", &messages, &params(json!(0.5)), 0), known);
        assert_ne!(key("gpt-4", &messages, &params(json!(0)), 1), known);
        let entry = Entry::new("gpt-4", &messages, params(json!(0)), 0, Reply::default(), "file", 0.0);
        assert_eq!((entry.key.as_str(), entry.prompt_sha256), (known, sha256_hex("\"hi\"")));
    }

    #[test]
    fn entries_stay_and_the_last_of_a_key_counts() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(&directory.path().join("new/cache")).unwrap();
        assert_eq!(cache.insert(entry("a", "1")).unwrap(), None);
        assert_eq!(cache.insert(entry("b", "2")).unwrap(), None);
        assert_eq!(cache.insert(entry("a", "3")).unwrap(), Some(entry("a", "1")));
        assert_eq!(cache.insert(entry("a", "3")).unwrap(), Some(entry("a", "3")));
        drop(cache);
        let directory = directory.path().join("new/cache");
        let lines = text(&directory);
        assert_eq!(lines.lines().count(), 3);
        assert_eq!(
            lines.lines().next().unwrap(),
            concat!(
                r#"{"key":"a","judge":"judge","params":{"temperature":0},"prompt_sha256":"p","#,
                r#""reply":{"content":"1","finish_reason":null,"usage":null,"model":null,"#,
                r#""system_fingerprint":null},"source":"api","created":1.25}"#
            )
        );
        for cache in [Cache::open(&directory).unwrap(), Cache::read(&directory).unwrap()] {
            assert_eq!(cache.get("a"), Some(entry("a", "3")));
            assert_eq!(cache.entries(), [entry("a", "3"), entry("b", "2")]);
            assert_eq!(cache.get("c"), None);
        }
    }

    #[test]
    fn a_line_that_was_cut_short_is_dropped_and_the_file_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let write = |text: &[u8]| std::fs::write(directory.path().join(FILE), text).unwrap();
        let whole = jsonl::lines(&[entry("a", "é"), entry("b", "2")], false);
        let half = jsonl::lines(&[entry("c", "é")], false);
        let next = jsonl::lines(&[entry("d", "4")], false);
        for end in (1..half.len()).step_by(29).chain([half.len() - 1]) {
            write(&[whole.as_bytes(), &half.as_bytes()[..end]].concat());
            // Where only the end of the line is missing, nothing is lost.
            let kept = if end == half.len() - 1 { half.as_str() } else { "" };
            assert_eq!(Cache::read(directory.path()).unwrap().entries().len(), 2 + kept.lines().count());
            Cache::open(directory.path()).unwrap().insert(entry("d", "4")).unwrap();
            assert_eq!(text(directory.path()), format!("{whole}{kept}{next}"));
        }
        for (bad, message) in
            [("{\"key\"\n", ":2: is no JSON"), ("{\"key\":\"c\"}\n", ":2: missing field `judge`")]
        {
            write(format!("{}{bad}{half}", whole.split_inclusive('\n').next().unwrap()).as_bytes());
            for error in
                [Cache::open(directory.path()).unwrap_err(), Cache::read(directory.path()).unwrap_err()]
            {
                assert!(error.to_string().contains(message), "{error}");
            }
        }
    }

    #[test]
    fn a_stubs_replies_never_pass_for_those_of_another_judge() {
        let directory = tempfile::tempdir().unwrap();
        let of_stub = |judge: &str| {
            let mut entry = entry(judge, "1");
            entry.judge = judge.to_owned();
            entry.reply.system_fingerprint = Some("stub".to_owned());
            entry
        };
        // As caches have it that were filled before this was refused.
        std::fs::write(directory.path().join(FILE), jsonl::lines(&[of_stub("gpt-4")], false)).unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        assert_eq!(cache.get("gpt-4"), None);
        let error = cache.insert(of_stub("gpt-4")).unwrap_err();
        assert!(error.is_input() && error.to_string().contains("--judge-model gpt-4: a stub"), "{error}");
        for judge in ["stub", "stub-hash"] {
            cache.insert(of_stub(judge)).unwrap();
        }
        // The judge itself is asked, and its reply counts.
        cache.insert(entry("gpt-4", "2")).unwrap();
        drop(cache);
        let cache = Cache::read(directory.path()).unwrap();
        assert_eq!(cache.entries(), [of_stub("stub"), of_stub("stub-hash"), entry("gpt-4", "2")]);
    }

    #[test]
    fn one_writes_and_others_read() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let error = Cache::open(directory.path()).unwrap_err();
        let holder = format!("process {} is writing", std::process::id());
        assert!(error.is_input() && error.to_string().contains(&holder), "{error}");
        cache.insert(entry("a", "1")).unwrap();
        let reader = Cache::read(directory.path()).unwrap();
        assert_eq!(reader.get("a"), Some(entry("a", "1")));
        assert!(reader.insert(entry("b", "2")).is_err());
        drop(cache);
        Cache::open(directory.path()).unwrap();
        assert_eq!(Cache::read(&directory.path().join("none")).unwrap().entries(), []);
    }
}
