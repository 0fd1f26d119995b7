//! The judge client and the stub, over loopback: faults, several workers, sudden ends and the key.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use asft_eval::{
    judge::{
        Cache, Endpoint, JudgeRun, Judgment, Outcome, Status, SystemClock, Transport, jitter,
        stub::{Replies, Running, Script, Service, Stub},
    },
    judge_behaviour::Behaviour,
};
use serde_json::{Value, json};

use crate::judge_world::{Rated, Scripted, World, rated, rating};

const ITEMS: usize = 160;
const UNSET: &str = "ASFT_TEST_KEY_THAT_IS_NOT_SET";
const KEY_VARIABLE: &str = "ASFT_TEST_JUDGE_KEY";

/// A log that can be read while it is written.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn rows(&self) -> Vec<Value> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A stub in the background, its base URL and its log.
fn start(replies: Replies, script: &str) -> (Running, String, Log) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(script.as_bytes()).unwrap();
    let log = Log::default();
    let stub = Stub::bind("127.0.0.1:0").unwrap();
    let base = stub.base_url();
    let service = Service::new(replies, Script::read(file.path()).unwrap(), Some(Box::new(log.clone())));
    (stub.start(service), base, log)
}

fn hash() -> Replies {
    Replies::Behave(Behaviour::parse("hash").unwrap())
}

/// Three items of ten fail, in every way there is, once to three times.
fn faults() -> String {
    let faults = [
        json!([{"status": 429, "headers": {"retry-after": "0"}}]),
        json!([{"status": 500, "body": "oops"}, {"status": 503}]),
        json!([{"close_after_bytes": 20}]),
        json!([{"garbage": true}]),
        json!([{"status": 200, "body": {}}, {"close_after_bytes": 0}, {"status": 408}]),
    ];
    let failing = (0..ITEMS).filter(|item| item % 10 < 3).enumerate();
    let rows = failing.map(|(index, item)| {
        json!({"contains": format!("item {item}."), "then": faults[index % faults.len()]}).to_string()
    });
    rows.collect::<Vec<_>>().join("\n")
}

/// A run whose judge has a name that a stub's replies may stand under.
fn asking_stub<'a>(world: &'a World, cache: &'a Cache, endpoint: &'a Endpoint) -> JudgeRun<'a> {
    JudgeRun { judge: "stub", ..world.run(cache, Some(endpoint)) }
}

fn run(world: &World, base: &str, key: &str, parallel: usize) -> Outcome {
    let endpoint = Endpoint::new(base, key, Duration::from_secs(30)).unwrap();
    let cache = world.cache();
    JudgeRun { parallel, ..asking_stub(world, &cache, &endpoint) }.run(&rated(ITEMS)).unwrap()
}

/// Rows of an output, with `created` as a number of its own.
fn output(outcome: &Outcome) -> String {
    let row = |(index, judgment): (usize, &Judgment)| {
        let reply = &judgment.replies[0];
        json!({"item": index, "status": judgment.status, "reply": reply.reply, "tstamp": reply.created})
            .to_string()
            + "\n"
    };
    outcome.judgments.iter().enumerate().map(row).collect()
}

fn without_times(output: &str) -> String {
    let rows = output.lines().map(|line| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row["tstamp"] = Value::Null;
        row.to_string() + "\n"
    });
    rows.collect()
}

/// All lines of the cache's file.
fn cached_keys(directory: &Path) -> Vec<String> {
    let text = fs::read_to_string(directory.join("replies.jsonl")).unwrap_or_default();
    let keys = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    keys.map(|entry| entry["key"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn with_faults_and_many_workers_every_item_is_judged_once() {
    let (_stub, base, log) = start(hash(), &faults());
    let world = World::new();
    let outcome = run(&world, &base, UNSET, 8);
    assert!(outcome.judgments.iter().all(|judgment| judgment.status == Status::Ok));
    let keys = cached_keys(world.path());
    assert_eq!((keys.len(), keys.iter().collect::<HashSet<_>>().len()), (ITEMS, ITEMS));

    let rows = log.rows();
    assert_eq!(rows.len() as u64, outcome.requests);
    let mut judged: HashMap<&str, usize> = HashMap::new();
    for row in rows.iter().filter(|row| row["did"] == "behaved") {
        *judged.entry(row["prompt_sha256"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!((judged.len(), judged.values().max()), (ITEMS, Some(&1)));
    // 48 items fail, in turn 1, 2, 1, 1 and 3 times.
    assert_eq!(rows.len(), ITEMS + 9 * 8 + 1 + 2 + 1);
    assert!(rows.iter().any(|row| row["did"] == "rule 3 step 1: behaved, closed after 20 bytes"));

    // The recorded replies give the same again, by another judge's name too.
    let (_replay, base, _) = start(Replies::replay(world.path()).unwrap(), "");
    let other = World::new();
    let endpoint = Endpoint::new(&base, UNSET, Duration::from_secs(30)).unwrap();
    let cache = other.cache();
    let run = JudgeRun { judge: "stub-other", ..other.run(&cache, Some(&endpoint)) };
    let replayed = run.run(&rated(ITEMS)).unwrap();
    assert_eq!(without_times(&output(&replayed)), without_times(&output(&outcome)));
    let unknown = run.run(&rated(ITEMS + 1)).unwrap();
    let why = unknown.stopped.unwrap();
    assert!(why.contains("HTTP 404: there is no recorded reply to the prompt"), "{why}");
}

#[test]
fn a_replay_tells_attempts_and_system_messages_apart() {
    let (first, second) = (World::new(), World::new());
    let script = [
        json!({"nth": 1, "then": [{"content": "Good."}, {"content": "[[9]]"}]}),
        json!({"contains": "alone", "then": [{"content": null, "finish_reason": "length"}]}),
    ];
    let (_stub, base, _) = start(hash(), &script.map(|row| row.to_string()).join("\n"));
    let items = ["twice", "alone"].map(|name| Rated { name: name.to_owned(), attempts: 2 });
    let judged = |world: &World, base: &str| {
        let endpoint = Endpoint::new(base, UNSET, Duration::from_secs(30)).unwrap();
        asking_stub(world, &world.cache(), &endpoint).run(&items).unwrap()
    };
    let outcome = judged(&first, &base);
    assert_eq!(outcome.judgments[0].replies.len(), 2);
    let (_replay, base, _) = start(Replies::replay(first.path()).unwrap(), "");
    let again = judged(&second, &base);
    assert_eq!(again.stopped, None);
    for (judgment, replayed) in outcome.judgments.iter().zip(&again.judgments) {
        let replies =
            |judgment: &Judgment| judgment.replies.iter().map(|one| one.reply.clone()).collect::<Vec<_>>();
        assert_eq!((replayed.status, replies(replayed)), (judgment.status, replies(judgment)));
    }
    let endpoint = Endpoint::new(&base, UNSET, Duration::from_secs(30)).unwrap();
    let ask = |system: &str| {
        let messages = json!([{"role": "system", "content": system}, {"role": "user", "content": "twice"}]);
        endpoint.send(&json!({"model": "other", "messages": messages})).unwrap().status
    };
    assert_eq!((ask("Say [[rating]]."), ask("Say nothing.")), (200, 404));
}

/// Not a test of its own: the process that the tests below start and kill.
#[test]
fn child_process() {
    let (Ok(base), Ok(directory)) = (std::env::var("ASFT_TEST_BASE"), std::env::var("ASFT_TEST_CACHE"))
    else {
        return;
    };
    let directory = Path::new(&directory);
    let endpoint = Endpoint::new(&base, KEY_VARIABLE, Duration::from_secs(30)).unwrap();
    println!("{endpoint:?}");
    let (world, clock) = (World::new(), SystemClock::start());
    let cache = Cache::open(directory).unwrap();
    let run =
        JudgeRun { parallel: 4, clock: &clock, jitter: &|| 0.0, ..asking_stub(&world, &cache, &endpoint) };
    let outcome = run.run(&rated(ITEMS)).unwrap();
    println!("{outcome:?}");
    if outcome.stopped.is_none() {
        fs::write(directory.join("output"), output(&outcome)).unwrap();
    }
}

const SECRET: &str = "sk-test/0123456789abcdef";

fn child(base: &str, directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "judge_stub::child_process", "--nocapture"])
        .env("ASFT_TEST_BASE", base)
        .env("ASFT_TEST_CACHE", directory)
        .env(KEY_VARIABLE, SECRET)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_run_that_is_killed_and_resumed_gives_what_one_undisturbed_gives() {
    let (_stub, base, log) = start(hash(), &faults());
    let directory = tempfile::tempdir().unwrap();
    let mut known = 0;
    for _ in 0..2 {
        let goal = known + 1 + (jitter() * 60.0) as usize;
        println!("killed at {goal} entries or soon after");
        let mut child = child(&base, directory.path());
        while cached_keys(directory.path()).len() < goal {
            assert_eq!(child.try_wait().unwrap(), None, "ended before it was killed");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        known = cached_keys(directory.path()).len();
        assert!(known >= goal && !directory.path().join("output").exists());
    }
    let last = child(&base, directory.path()).wait_with_output().unwrap();
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stdout));
    let keys = cached_keys(directory.path());
    assert_eq!((keys.len(), keys.iter().collect::<HashSet<_>>().len()), (ITEMS, ITEMS));
    // Only what was under way at a kill is asked again: four requests at a time.
    let judged = log.rows().iter().filter(|row| row["did"] == "behaved").count();
    assert!((ITEMS..=ITEMS + 8).contains(&judged), "{judged}");

    let resumed = fs::read_to_string(directory.path().join("output")).unwrap();
    let (_stub, base, _) = start(hash(), "");
    let undisturbed = output(&run(&World::new(), &base, UNSET, 1));
    assert_eq!(without_times(&resumed), without_times(&undisturbed));
}

#[test]
fn the_key_is_nowhere_but_on_the_way() {
    let rude = json!({"error": {"message": format!("Incorrect API key provided: {SECRET}")}});
    let script = [
        json!({"nth": 9, "then": [{"status": 401, "body": rude}]}),
        json!({"nth": 2, "then": [{"content": format!("[[1]] for {SECRET}")}, {"status": 500, "body": SECRET}]}),
    ];
    let (_stub, base, log) = start(hash(), &script.map(|row| row.to_string()).join("\n"));
    let directory = tempfile::tempdir().unwrap();
    let output = child(&base, directory.path()).wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && stdout.contains("HTTP 401: Incorrect API key provided: [key]"),
        "{stdout}"
    );
    let cached = fs::read_to_string(directory.path().join("replies.jsonl")).unwrap();
    assert!(cached.contains("[[1]] for [key]"), "{cached}");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for text in [&*stdout, &*stderr, &cached, &log] {
        assert!(!text.contains(SECRET) && !text.contains("0123456789abcdef"), "{text}");
    }
}

#[test]
fn replies_of_a_stub_are_not_kept_under_another_judges_name() {
    let (_stub, base, log) = start(hash(), "");
    let world = World::new();
    let endpoint = Endpoint::new(&base, UNSET, Duration::from_secs(30)).unwrap();
    let cache = world.cache();
    let error = world.run(&cache, Some(&endpoint)).run(&rated(3)).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("hint: call the judge stub"), "{error}");
    assert_eq!((log.rows().len(), cache.entries().len()), (1, 0));

    // What a judge itself once said may be replayed under its name, and under no other.
    let recorded = World::new();
    let judge = Scripted::new(&recorded.clock, |_, _| rating(9));
    recorded.run(&recorded.cache(), Some(&judge)).run(&rated(3)).unwrap();
    let (_replay, base, _) = start(Replies::replay(recorded.path()).unwrap(), "");
    let endpoint = Endpoint::new(&base, UNSET, Duration::from_secs(30)).unwrap();
    let asked = |judge, model| JudgeRun { judge, model, ..world.run(&cache, Some(&endpoint)) }.run(&rated(3));
    assert!(asked("another", "another").is_err());
    assert_eq!(cache.entries().len(), 0);
    assert_eq!(asked("judge", "judge").unwrap().stopped, None);
    assert_eq!(cache.entries().len(), 3);
}

#[test]
fn the_stub_is_for_this_machine_only() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "nowhere", "127.0.0.1"] {
        let error = Stub::bind(address).err().unwrap();
        assert!(error.is_input() && error.to_string().contains("hint: 127.0.0.1:0"), "{address}: {error}");
    }
    let stub = Stub::bind("localhost:0").unwrap();
    assert!(stub.address().ip().is_loopback());
    let taken = Stub::bind(&stub.address().to_string()).err().unwrap();
    assert!(!taken.is_input(), "{taken}");
    let empty = tempfile::tempdir().unwrap();
    assert!(Replies::replay(empty.path()).unwrap_err().to_string().contains("holds no replies"));
}
