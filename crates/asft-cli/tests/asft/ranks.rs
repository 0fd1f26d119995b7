//! Several processes, started by `mpirun`, train like one; whoever is lost or different is named.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use safetensors::SafeTensors;
use serde_json::Value;

use crate::{
    resume::{files, metrics, steps_made},
    support::{Scratch, stderr},
};

const TRAIN: [&str; 3] = ["train", "--config", "config.toml"];

/// `mpirun` with `options`, to which programs are added.
fn mpirun(scratch: &Scratch, options: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "--allow-run-as-root"]).args(options).current_dir(scratch.0.path());
    command.env_remove("RUST_LOG").env("RAYON_NUM_THREADS", "1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn program(command: &mut Command, ranks: usize, arguments: &[&str]) {
    command.args(["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_asft")]).args(arguments);
}

fn several(scratch: &Scratch, ranks: usize, arguments: &[&str]) -> Command {
    let mut command = mpirun(scratch, &[]);
    program(&mut command, ranks, arguments);
    command
}

fn succeed(mut command: Command) -> Output {
    let output = command.output().expect("mpirun is installed: Debian's package openmpi-bin");
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, stderr(&output));
    output
}

/// Fails unless two numbers are equal within 1e-5 of the larger, or of 1.
fn assert_close(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= 1e-5 * a.abs().max(b.abs()).max(1.0), "{what}: {a} and {b}");
}

fn assert_alike(a: &Value, b: &Value, what: &str) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{what}");
            a.iter().for_each(|(key, value)| assert_alike(value, &b[key], &format!("{what}, {key}")));
        }
        (Value::Number(a), Value::Number(b)) => {
            assert_close(a.as_f64().unwrap(), b.as_f64().unwrap(), what);
        }
        (a, b) => assert_eq!(a, b, "{what}"),
    }
}

fn weights(run: &Path, file: &str) -> Vec<(String, Vec<f32>)> {
    let bytes = std::fs::read(run.join("latest").join(file)).unwrap();
    let numbers = |data: &[u8]| data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut found: Vec<_> =
        tensors.iter().map(|(name, tensor)| (name.to_owned(), numbers(tensor.data()))).collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

/// Rows of the metrics, scores of held-out pairs and weights at the end are those of one process.
fn assert_like_one(ranks: usize, settings: &str, more: &[&str], file: &str) {
    let scratch = Scratch::new();
    scratch.config(settings);
    let arguments = [&TRAIN[..], more].concat();
    scratch.ok(&[&arguments[..], &["--output", "one", "--set", "reference.cache=one-cache"]].concat());
    let output = succeed(several(&scratch, ranks, &[&arguments[..], &["--json"]].concat()));
    let (one, run) = (scratch.path("one"), scratch.path("run"));

    let (expected, got) = (metrics(&one), metrics(&run));
    assert_eq!(expected.len(), got.len());
    for (row, (expected, got)) in expected.iter().zip(&got).enumerate() {
        assert_alike(expected, got, &format!("{more:?}: row {row}"));
    }
    let (expected, got) = (weights(&one, file), weights(&run, file));
    assert_eq!(expected.len(), got.len());
    for ((name, expected), (other, got)) in expected.iter().zip(&got) {
        assert_eq!(name, other);
        let values = expected.iter().zip(got);
        values.for_each(|(&a, &b)| assert_close(a.into(), b.into(), &format!("{more:?}: {name}")));
    }
    let scores = |run: &Path| std::fs::read_to_string(run.join("evaluations/step-0.jsonl")).unwrap();
    let (expected, got) = (scores(&one), scores(&run));
    assert_eq!(expected.lines().count(), got.lines().count());
    for (expected, got) in expected.lines().zip(got.lines()) {
        let parsed = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        assert_alike(&parsed(expected), &parsed(got), "scores of a held-out pair");
    }

    let rows = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    for line in rows.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let share = row["communication_share"].as_f64().unwrap();
        assert!(row["ranks"] == ranks && (0.0..1.0).contains(&share), "{row}");
    }
    let summary: Value = serde_json::from_slice(&output.stdout).expect("one process prints one summary");
    assert!(summary["tokens_per_second"].as_f64().unwrap() > 0.0, "{summary}");
    assert!((0.0..1.0).contains(&summary["communication_share"].as_f64().unwrap()), "{summary}");
    assert_eq!(stderr(&output).matches("held out after step 0").count(), 1);
}

const MODEL: &str = "model.safetensors";

#[test]
fn two_ranks_train_like_one() {
    assert_like_one(2, "", &["--set", "train.pairs_per_step=4"], MODEL);
}

/// Some of them have no pair in a step.
#[test]
fn four_ranks_train_like_one() {
    assert_like_one(4, "", &["--set", "train.pairs_per_step=5"], MODEL);
}

/// The log-probs of the reference model are shared work too, and every rank gets all of them.
#[test]
fn ranks_train_like_one_against_a_reference() {
    for objective in ["dpo", "kto", "bco"] {
        let more = ["--objective", objective, "--set", "train.pairs_per_step=4"];
        assert_like_one(2, "", &more, MODEL);
    }
}

/// The loss is divided by the tokens of the whole step, not of a rank's share.
#[test]
fn ranks_count_the_tokens_of_all() {
    let by_token = "objective.asft.nll_reduction=\"token\"";
    assert_like_one(3, "", &["--set", by_token, "--set", "train.pairs_per_step=4"], MODEL);
}

#[test]
fn adapters_are_trained_like_by_one() {
    let more = ["--set", "train.pairs_per_step=4"];
    assert_like_one(2, "[lora]\nrank = 4\n", &more, "adapter_model.safetensors");
}

/// Some ranks have no pair in a step, and go back through all segments with the others all the same.
#[test]
fn gradients_of_all_ranks_are_applied_in_the_backward_pass() {
    let by_block = ["--set", "optimizer.in_backward=true", "--set", "train.segments=2"];
    assert_like_one(4, "", &[&by_block[..], &["--set", "train.pairs_per_step=5"]].concat(), MODEL);
}

#[test]
fn a_rank_that_differs_is_named() {
    let scratch = Scratch::new();
    scratch.config("");
    std::fs::write(scratch.path("other.jsonl"), "").unwrap();
    let cases: [(&[&str], &str); 3] = [
        (
            &["--set", "optimizer.learning_rate=0.1"],
            "error: ranks 1, 2 cannot train with rank 0: optimizer.learning_rate is 0.001 on rank 0 and 0.1 on rank 1\n",
        ),
        (&["--set", "data.train=other.jsonl"], "error: rank 1: other.jsonl"),
        (&["--set", "train.epoch=1"], "error: rank 1: command line: train.epoch: unknown key\n"),
    ];
    for (more, expected) in cases {
        let mut command = mpirun(&scratch, &[]);
        program(&mut command, 1, &TRAIN);
        command.arg(":");
        program(&mut command, 2, &[&TRAIN[..], more].concat());
        let output = command.output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected) && message.matches("error:").count() == 1, "{message}");
        assert!(!scratch.path("run").exists());
    }
    // The same path, but another model on one of the machines.
    let mut config = std::fs::read_to_string(scratch.path("config.toml")).unwrap();
    let (first, other) = (scratch.copy_of("llama3", "first"), scratch.copy_of("llama3", "other"));
    let weights = other.join(MODEL);
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    config = config.replace(crate::support::tiny("llama3").to_str().unwrap(), "MODEL");
    config = config.replace("MODEL/pairs.jsonl", first.join("pairs.jsonl").to_str().unwrap());
    for (name, model) in [("config.toml", first), ("other.toml", other)] {
        scratch.write(name, config.replace("MODEL", model.to_str().unwrap()));
    }
    let mut command = mpirun(&scratch, &[]);
    program(&mut command, 1, &TRAIN);
    command.arg(":");
    program(&mut command, 1, &["train", "--config", "other.toml"]);
    let output = command.output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("error: rank 1 cannot train with rank 0: the model is "), "{message}");
    assert!(!scratch.path("run").exists());
}

#[test]
fn other_commands_are_for_one_process() {
    let scratch = Scratch::new();
    let output = several(&scratch, 2, &["devices"]).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert_eq!(message.matches("error: asft devices is work for one process").count(), 1, "{message}");
}

/// Starts `command` and waits until the run has made `steps` steps.
fn underway(scratch: &Scratch, mut command: Command, steps: usize) -> Child {
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while steps_made(&scratch.path("run")) < steps {
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        assert!(Instant::now() < deadline, "no step {steps} within two minutes");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

/// Sends a signal to the process that is `rank` among those that `mpirun` started.
fn signal(mpirun: &Child, rank: usize, signal: &str) {
    let children = Command::new("pgrep").args(["-P", &mpirun.id().to_string()]).output().unwrap();
    let children = String::from_utf8(children.stdout).unwrap();
    let name = format!("OMPI_COMM_WORLD_RANK={rank}");
    let is_rank = |id: &&str| {
        let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == name.as_bytes())
    };
    send(children.lines().find(is_rank).expect("the rank runs"), signal);
}

fn send(process: &str, signal: &str) {
    assert!(Command::new("kill").args([signal, process]).status().unwrap().success());
}

/// 120 steps.
const LONG: [&str; 4] = ["--set", "train.epochs=40", "--set", "train.collective_timeout=2"];

#[test]
fn killed_and_resumed_ranks_end_bit_for_bit_the_same() {
    let train = [&TRAIN[..], &LONG].concat();
    let whole = Scratch::new();
    whole.config("");
    succeed(several(&whole, 2, &train));

    let killed = Scratch::new();
    killed.config("");
    let mut arguments = train.clone();
    for (rank, step) in [(1, 8), (0, 35)] {
        let job = underway(&killed, several(&killed, 2, &arguments), step);
        signal(&job, rank, "-KILL");
        let output = job.wait_with_output().unwrap();
        let message = stderr(&output);
        assert!(!output.status.success());
        assert!(message.contains(&format!("process rank {rank} ")), "mpirun names it: {message}");
        arguments = [&train[..], &["--resume"]].concat();
    }
    let output = succeed(several(&killed, 2, &arguments));
    assert!(stderr(&output).contains("going on after step"), "{}", stderr(&output));
    let (expected, got) = (whole.path("run"), killed.path("run"));
    assert_eq!(metrics(&expected), metrics(&got));
    let (expected, got) = (files(&expected), files(&got));
    assert_eq!(expected.keys().collect::<Vec<_>>(), got.keys().collect::<Vec<_>>());
    got.iter().for_each(|(name, bytes)| assert!(*bytes == expected[name], "{name} differs"));
}

#[test]
fn a_silent_rank_ends_the_job_within_its_time_out() {
    for silent in [1, 0] {
        let scratch = Scratch::new();
        scratch.config("");
        let train = [&TRAIN[..], &LONG].concat();
        let job = underway(&scratch, several(&scratch, 2, &train), 8);
        signal(&job, silent, "-STOP");
        let stopped = Instant::now();
        let output = job.wait_with_output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        let expected = format!(
            "error: rank {} has heard nothing of rank {silent} for 2 s (train.collective_timeout) and stops\n",
            1 - silent
        );
        assert!(message.contains(&expected), "{message}");
        assert!(stopped.elapsed() < Duration::from_secs(60), "{:?}", stopped.elapsed());
        succeed(several(&scratch, 2, &[&train[..], &["--resume"]].concat()));
        assert_eq!(steps_made(&scratch.path("run")), 120);
    }
}

/// Where `mpirun` leaves the others running, they see themselves that one is gone.
#[test]
fn every_rank_that_lives_names_the_one_that_was_killed() {
    let scratch = Scratch::new();
    scratch.config("");
    let mut command = mpirun(&scratch, &["--enable-recovery"]);
    program(&mut command, 3, &[&TRAIN[..], &LONG].concat());
    let job = underway(&scratch, command, 8);
    signal(&job, 2, "-KILL");
    let message = stderr(&job.wait_with_output().unwrap());
    for rank in [0, 1] {
        assert!(
            message.contains(&format!("error: rank {rank} has heard nothing of rank 2 for 2 s")),
            "{message}"
        );
    }
}

/// mpirun hands SIGUSR1 on to every rank.
#[test]
fn a_signal_to_mpirun_writes_a_checkpoint_and_exits_130() {
    let scratch = Scratch::new();
    scratch.config("");
    let train = [&TRAIN[..], &["--set", "train.epochs=2000", "--set", "train.save_every_steps=0"]].concat();
    let job = underway(&scratch, several(&scratch, 2, &train), 3);
    send(&job.id().to_string(), "-USR1");
    let output = job.wait_with_output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(130), "{message}");
    let steps = steps_made(&scratch.path("run"));
    assert!(message.contains(&format!("interrupted after step {steps}")), "{message}");
    assert!(scratch.path(&format!("run/checkpoints/step-{steps}/manifest.json")).is_file());
}
