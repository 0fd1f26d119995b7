//! `asft bench gpu`: all that is to be known of training on a GPU, each part in a process of its own, so that one that fails or
//! runs out of memory leaves the others alone.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use asft_train::run_directory::write_atomically;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::{
    backend::{Backend, device},
    failure::Failure,
    output::{self, note},
};

#[derive(Args)]
pub struct Arguments {
    /// Where to compute.
    #[arg(long, value_enum, default_value = "cuda")]
    backend: Backend,
    /// The model to train, by default with random weights.
    #[arg(long, value_name = "M", default_value = "random:llama-3-8b")]
    model: String,
    /// File of preference pairs.
    #[arg(long, value_name = "F", default_value = "embedded:quickstart")]
    data: String,
    /// Pairs of a step, the first of the file; every step takes the same.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pairs: u16,
    /// Steps of each training; the first, which compiles and tunes kernels, is not counted.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..))]
    steps: u16,
    /// Type of the weights: f32 or bf16.
    #[arg(long, default_value = "bf16")]
    dtype: String,
    /// Rate of products that utilisation is of, in 10¹² operations a second: 989 of an H100's in bf16.
    #[arg(long, default_value_t = 989.0)]
    peak_tflops: f64,
    /// What to do.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::value_variants().to_vec())]
    parts: Vec<Part>,
    /// Seconds after which a part is given up.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    part_timeout: u64,
    /// Sets one configuration key of the trainings; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// The JSON file to write.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// A part of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The device and its rates.
    Devices,
    /// The backend against flex in f32.
    ConformanceF32,
    /// The backend against flex in bf16.
    ConformanceBf16,
    /// Products of the model's shapes.
    Matmul,
    /// Steps with adapters of rank 16.
    Lora,
    /// Steps with all weights, moments in bf16 and gradients applied in the backward pass.
    Full,
}

impl Part {
    /// As `--parts` and the file call it.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().replace('-', "_"))
    }

    /// The command that does it.
    fn command(self, arguments: &Arguments) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let on = ["--backend", arguments.backend.name()];
        let training = |settings: &[&str]| {
            let (pairs, epochs) = (arguments.pairs.to_string(), format!("train.epochs={}", arguments.steps));
            let dtype = format!("model.dtype={}", json!(arguments.dtype));
            let mut command =
                words(&["bench", "train", "--model", &arguments.model, "--data", &arguments.data]);
            command.extend(words(&["--pairs", &pairs, "--pairs-per-step", &pairs, on[0], on[1]]));
            let own = settings.iter().map(|setting| (*setting).to_owned());
            for setting in own.chain([dtype, epochs]).chain(arguments.assignments.iter().cloned()) {
                command.extend(["--set".to_owned(), setting]);
            }
            command
        };
        match self {
            Self::Devices => words(&["devices", "--json"]),
            Self::ConformanceF32 => words(&["bench", "conformance", "--dtype", "f32", on[0], on[1]]),
            Self::ConformanceBf16 => words(&["bench", "conformance", "--dtype", "bf16", on[0], on[1]]),
            Self::Matmul => words(&[
                "bench",
                "matmul",
                "--model",
                &arguments.model,
                "--dtype",
                &arguments.dtype,
                on[0],
                on[1],
            ]),
            Self::Lora => training(&["lora.rank=16"]),
            Self::Full => training(&[r#"optimizer.state_dtype="bf16""#, "optimizer.in_backward=true"]),
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let backend = arguments.backend.usable()?;
    if !(arguments.peak_tflops > 0.0 && arguments.peak_tflops.is_finite()) {
        return Err(Failure::input(format!("--peak-tflops: must be above 0, got {}", arguments.peak_tflops)));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut result = json!({
        "date": asft_data::template::today(),
        "unix_time": now,
        "version": env!("CARGO_PKG_VERSION"),
        "backend": backend.name(),
        "device": device(backend).as_ref().map_or("", |device| device.name.as_str()),
        "driver": driver(),
        "model": arguments.model,
        "data": arguments.data,
        "pairs": arguments.pairs,
        "dtype": arguments.dtype,
        "peak_tflops": arguments.peak_tflops,
        "parts": {},
    });
    write(&arguments.output, &result)?;
    for part in &arguments.parts {
        note!("{}", part.name());
        let mut done = perform(*part, arguments)?;
        if let Some(rates) = rates(&done["result"], arguments.peak_tflops) {
            done["rates"] = rates;
        }
        result["parts"][part.name()] = done;
        // What is known stays known, whatever comes next.
        write(&arguments.output, &result)?;
    }
    output::print(&table(&result))?;
    let parts = result["parts"].as_object().into_iter().flatten();
    let failed: Vec<&str> =
        parts.filter(|(_, part)| !part["error"].is_null()).map(|(name, _)| name.as_str()).collect();
    match failed.as_slice() {
        [] => Ok(()),
        names => Err(Failure::Run(anyhow::anyhow!(
            "{} failed; {} says why",
            names.join(", "),
            arguments.output.display()
        ))),
    }
}

fn write(path: &Path, result: &Value) -> Result<(), Failure> {
    Ok(write_atomically(path, format!("{result:#}\n").as_bytes())?)
}

/// The result of a part, or the last lines of what it said, with the seconds it took.
fn perform(part: Part, arguments: &Arguments) -> Result<Value, Failure> {
    let failed = |error: std::io::Error| Failure::Run(error.into());
    let program = std::env::current_exe().map_err(failed)?;
    let started = Instant::now();
    let mut said = tempfile::tempfile().map_err(failed)?;
    let mut printed = tempfile::tempfile().map_err(failed)?;
    let mut child = Command::new(program)
        .args(part.command(arguments))
        .stdin(Stdio::null())
        .stdout(printed.try_clone().map_err(failed)?)
        .stderr(said.try_clone().map_err(failed)?)
        .spawn()
        .map_err(failed)?;
    let longest = Duration::from_secs(arguments.part_timeout);
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break Some(status),
            None if started.elapsed() > longest => {
                child.kill().and_then(|()| child.wait()).map_err(failed)?;
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let mut done = Map::new();
    done.insert("seconds".to_owned(), json!(started.elapsed().as_secs_f64()));
    let text = read(&mut printed).map_err(failed)?;
    // A conformance that failed prints its differences all the same.
    if let Ok(result) = serde_json::from_str::<Value>(&text) {
        done.insert("result".to_owned(), result);
    }
    if !status.is_some_and(|status| status.success()) {
        let said = read(&mut said).map_err(failed)?;
        let lines: Vec<&str> = said.lines().rev().take(12).collect();
        let said = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
        let how = status.map_or_else(
            || format!("given up after {} s (--part-timeout)", arguments.part_timeout),
            |status| status.to_string(),
        );
        note!("{}: {how}\n{said}", part.name());
        done.insert("error".to_owned(), json!(format!("{how}\n{said}")));
    }
    Ok(Value::Object(done))
}

fn read(file: &mut std::fs::File) -> std::io::Result<String> {
    use std::io::Seek;
    let mut bytes = vec![];
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Medians over the steps after the first of a training, and what they come to.
fn rates(result: &Value, peak_tflops: f64) -> Option<Value> {
    let mut steps: Vec<f64> =
        result["step_seconds"].as_array()?.iter().filter_map(Value::as_f64).skip(1).collect();
    steps.sort_by(f64::total_cmp);
    let seconds = *steps.get(steps.len() / 2)?;
    let (tokens, flops) = (result["tokens"].as_f64()?, result["epoch_flops"].as_f64()?);
    Some(json!({
        "seconds_per_step": seconds,
        "tokens_per_second": tokens / seconds,
        "model_flops_utilisation": flops / seconds / (peak_tflops * 1e12),
    }))
}

/// The version of NVIDIA's driver, where its tool is there.
fn driver() -> Option<String> {
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=driver_version", "--format=csv,noheader"])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().next().unwrap_or("").trim().to_owned())
}

fn table(result: &Value) -> String {
    let mut text = format!(
        "{} on {}\n\n{:<18}{:>10}{:>12}{:>12}{:>8}{:>12}\n",
        result["model"].as_str().unwrap_or(""),
        result["device"].as_str().unwrap_or(""),
        "part",
        "seconds",
        "s a step",
        "tokens/s",
        "MFU",
        "memory, GB"
    );
    for (name, part) in result["parts"].as_object().into_iter().flatten() {
        let number = |value: &Value, digits: usize| {
            value.as_f64().map_or_else(String::new, |value| format!("{value:.digits$}"))
        };
        let rates = &part["rates"];
        let utilisation = rates["model_flops_utilisation"].as_f64();
        let memory = ["device_memory_bytes", "peak_memory_bytes"]
            .iter()
            .find_map(|key| part["result"][key].as_f64())
            .map_or_else(String::new, |bytes| format!("{:.2}", bytes / 1e9));
        text += &format!(
            "{name:<18}{:>10}{:>12}{:>12}{:>8}{memory:>12}{}\n",
            number(&part["seconds"], 1),
            number(&rates["seconds_per_step"], 3),
            number(&rates["tokens_per_second"], 0),
            utilisation.map_or_else(String::new, |share| format!("{:.1}%", 100.0 * share)),
            if part["error"].is_null() { "" } else { "  failed" }
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_steps_after_the_first() {
        let result = json!({"step_seconds": [90.0, 2.0, 4.0, 3.0], "tokens": 6000, "epoch_flops": 3e14});
        let rates = rates(&result, 1000.0).unwrap();
        assert_eq!(rates["seconds_per_step"], 3.0);
        assert_eq!(rates["tokens_per_second"], 2000.0);
        assert_eq!(rates["model_flops_utilisation"], 0.1);
        assert_eq!(super::rates(&json!({"losses": []}), 1000.0), None);
    }

    #[test]
    fn parts_have_the_names_of_their_option() {
        let names: Vec<String> = Part::value_variants().iter().map(|part| part.name()).collect();
        assert_eq!(names, ["devices", "conformance_f32", "conformance_bf16", "matmul", "lora", "full"]);
    }
}
