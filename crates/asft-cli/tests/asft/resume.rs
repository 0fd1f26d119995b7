//! A run that is killed and resumed ends like one that was not.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::support::Scratch;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// What differs between two runs that do the same.
const TIMES: [&str; 6] =
    ["seconds", "pairs_per_second", "tokens_per_second", "peak_memory_bytes", "ranks", "communication_share"];

/// Rows of `metrics.jsonl` without times and memory.
pub fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        for key in TIMES {
            row.as_object_mut().unwrap().remove(key);
        }
        row
    };
    text.lines().map(row).collect()
}

/// Every file of the newest checkpoint but the manifest, and every per-pair evaluation.
pub fn files(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for directory in ["latest", "evaluations"] {
        for entry in std::fs::read_dir(run.join(directory)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{directory}/{}", entry.file_name().to_string_lossy());
            files.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
    files
}

pub fn steps_made(run: &Path) -> usize {
    std::fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.matches("\"train\"").count())
}

/// Kills (SIGKILL) a run as soon as it has made `step` steps; true if it died before it ended by itself.
fn kill_at(scratch: &Scratch, arguments: &[&str], step: usize) -> bool {
    let mut child = scratch.command(arguments).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the run failed by itself: {status}");
            return false;
        }
        assert!(Instant::now() < deadline, "no step {step} within two minutes");
        if steps_made(&scratch.path("run")) >= step {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn killed_three_times_it_ends_bit_for_bit_the_same() {
    killed_three_times("", &[]);
}

/// Masks of dropout are those that the killed steps would have had.
#[test]
fn so_do_adapters_with_dropout() {
    killed_three_times("[lora]\nrank = 4\ndropout = 0.1\n", &[]);
}

/// Chance rounds moments in bf16 as it would have, and a checkpoint keeps them as they are.
#[test]
fn so_do_moments_in_bf16() {
    let run = killed_three_times("", &["--set", "optimizer.state_dtype=\"bf16\""]);
    let moments = std::fs::read(run.path("run/checkpoints/step-18/optimizer.safetensors")).unwrap();
    let moments = SafeTensors::deserialize(&moments).unwrap();
    assert!(!moments.is_empty() && moments.iter().all(|(_, tensor)| tensor.dtype() == Dtype::BF16));
}

/// The norm that clips the next step is kept too.
#[test]
fn so_do_gradients_applied_in_the_backward_pass() {
    let set = ["--set", "optimizer.in_backward=true", "--set", "optimizer.max_grad_norm=0.01"];
    let run = killed_three_times("", &[&set[..], &["--set", "train.segments=2"]].concat());
    let state = std::fs::read_to_string(run.path("run/checkpoints/step-18/state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    let rows = metrics(&run.path("run"));
    let last = rows.iter().rfind(|row| row["kind"] == "train").unwrap();
    assert_eq!(state["grad_norm"], last["grad_norm"]);
}

/// The directory of a run that was not killed, to which one that was is equal.
fn killed_three_times(settings: &str, set: &[&str]) -> Scratch {
    let train = [&["train", "--config", "config.toml"], set].concat();
    let whole = Scratch::new();
    whole.config(settings);
    whole.ok(&train);
    let expected = (metrics(&whole.path("run")), files(&whole.path("run")));
    assert_eq!(steps_made(&whole.path("run")), 18);

    // The instants of the kills differ from run to run of this test; the result must not.
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos() as usize;
    let killed = Scratch::new();
    killed.config(settings);
    let mut arguments = train.clone();
    let mut kills = 0;
    for (index, first) in [1, 6, 11].into_iter().enumerate() {
        let step = first + (seed >> (8 * index)) % 5;
        kills += usize::from(kill_at(&killed, &arguments, step));
        arguments = [&train[..], &["--resume"]].concat();
    }
    assert!(kills >= 2, "the run was too fast to be killed: {kills} of 3");
    killed.ok(&arguments);
    assert_eq!(metrics(&killed.path("run")), expected.0, "seed {seed}");
    let got = files(&killed.path("run"));
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.1.keys().collect::<Vec<_>>());
    for (name, bytes) in &got {
        assert!(*bytes == expected.1[name], "{name} differs (seed {seed})");
    }
    whole
}

#[test]
fn a_damaged_newest_checkpoint_is_passed_over() {
    let scratch = Scratch::new();
    scratch.config("");
    scratch.ok(&["train", "--config", "config.toml"]);
    let run = scratch.path("run");
    let expected = (metrics(&run), files(&run));
    let weights = run.join("checkpoints/step-18/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).unwrap();

    let commands: [&[&str]; 3] = [
        &["train", "--config", "config.toml", "--set", "model.path=run", "--output", "damaged"],
        &["export", "--run", "run", "--output", "damaged"],
        &["score", "--model", "run/latest", "--data", "pairs.jsonl", "--output", "damaged"],
    ];
    for arguments in commands {
        let output = scratch.run(arguments);
        let message = crate::support::stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("model.safetensors: differs from manifest.json"), "{message}");
    }

    // What a run leaves that is killed while it writes an evaluation is cleared away.
    scratch.write("run/evaluations/.tmpAbC123", "{");
    let output = scratch.run(&["train", "--config", "config.toml", "--resume"]);
    assert!(output.status.success(), "{}", crate::support::stderr(&output));
    let messages = crate::support::stderr(&output);
    assert!(messages.contains("step-18") && messages.contains("going on after step 15"), "{messages}");
    assert_eq!((metrics(&run), files(&run)), expected);
}

#[test]
fn only_the_run_that_was_started_is_resumed() {
    let scratch = Scratch::new();
    scratch.config("");
    scratch.ok(&["train", "--config", "config.toml", "--set", "train.max_steps=2"]);
    let cases: [(&[&str], &str); 4] = [
        (&[], "already holds a run"),
        (&["--resume", "--set", "train.max_steps=4"], "train.max_steps was 2"),
        (
            &["--resume", "--set", "train.max_steps=2", "--set", "optimizer.learning_rate=1"],
            "optimizer.learning_rate was 0.001",
        ),
        (&["--resume", "--output", "elsewhere"], "holds no run to resume"),
    ];
    for (more, expected) in cases {
        let output = scratch.run(&[&["train", "--config", "config.toml"], more].concat());
        let message = crate::support::stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {message}");
        assert!(message.contains(expected), "{more:?}: {message}");
    }
    assert!(!scratch.path("elsewhere").exists());
    // Whatever does not change the result may change, and a finished run says so again.
    let summary =
        scratch.ok(&["train", "--resume", "--output", "run", "--set", "train.keep_checkpoints=1", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&summary).unwrap()["steps"], 2);
}

/// A run that died before its configuration was on disk has not begun.
#[test]
fn a_bare_skeleton_is_no_run() {
    let scratch = Scratch::new();
    scratch.config("");
    std::fs::create_dir_all(scratch.path("run/checkpoints")).unwrap();
    scratch.write("run/.lock", "");
    scratch.write("run/.tmpAbC123", "[mod");
    scratch.ok(&["train", "--config", "config.toml", "--set", "train.max_steps=1"]);
    assert_eq!(steps_made(&scratch.path("run")), 1);
}

#[test]
fn held_out_data_must_stay_the_same() {
    let scratch = Scratch::new();
    scratch.config("");
    let pairs = std::fs::read_to_string(crate::support::tiny("llama3").join("pairs.jsonl")).unwrap();
    let held_out = scratch.write("held_out.jsonl", &pairs);
    let arguments = [
        "train",
        "--config",
        "config.toml",
        "--set",
        "data.eval_pairs=0",
        "--set",
        "data.eval=held_out.jsonl",
        "--set",
        "train.max_steps=2",
    ];
    scratch.ok(&arguments);
    std::fs::write(held_out, pairs.lines().next().unwrap()).unwrap();
    let output = scratch.run(&[&arguments[..], &["--resume"]].concat());
    let message = crate::support::stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("held-out data is not what the run was started with"), "{message}");
}

/// Whoever reads standard error may go away; the run must not.
#[cfg(unix)]
#[test]
fn a_closed_standard_error_stops_nothing() {
    let scratch = Scratch::new();
    scratch.config("");
    let mut child = scratch
        .command(&["train", "--config", "config.toml"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(steps_made(&scratch.path("run")), 18);
}

#[cfg(unix)]
#[test]
fn ctrl_c_writes_a_checkpoint_and_exits_130() {
    let scratch = Scratch::new();
    scratch.config("");
    let arguments = [
        "train",
        "--config",
        "config.toml",
        "--set",
        "train.epochs=2000",
        "--set",
        "train.save_every_steps=0",
    ];
    let mut child = scratch.command(&arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    while steps_made(&scratch.path("run")) < 3 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    let message = crate::support::stderr(&output);
    assert_eq!(output.status.code(), Some(130), "{message}");
    let steps = steps_made(&scratch.path("run"));
    assert!(message.contains(&format!("step-{steps}")), "{message}");
    assert!(scratch.path(&format!("run/checkpoints/step-{steps}/manifest.json")).is_file());
    assert!(scratch.path("run/report.html").is_file());
}
