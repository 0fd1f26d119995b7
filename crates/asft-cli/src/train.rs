//! `asft train`.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use asft_model::TrainBackend;
use asft_train::{
    Collective, Event, Job, Outcome, RESULT_ROWS, ResumePoint, RunConfig, Summary,
    config::default_collective_timeout, memory::MemoryPlan, quickstart,
};
use clap::Args;
use serde_json::json;

use crate::{
    backend::{self, Backend, Work},
    failure::Failure,
    interrupt::on_interrupt,
    output::{self, note},
    progress::Progress,
    ranks,
};

#[derive(Args)]
pub struct Arguments {
    /// The run's configuration (TOML); without it, the embedded quickstart.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Replaces the configuration's objective by this one with its defaults.
    #[arg(long, value_name = "NAME")]
    objective: Option<String>,
    /// Sets one key, for example optimizer.learning_rate=1e-6; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// The run directory; short for --set train.output=DIR.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Where to compute.
    #[arg(long, value_enum, default_value = "auto")]
    backend: Backend,
    /// Goes on from the newest whole checkpoint of the run directory.
    #[arg(long)]
    resume: bool,
    /// Reads and checks everything and prints the plan, without training.
    #[arg(long)]
    dry_run: bool,
    /// Plans for pairs of so many tokens, prompt and both answers together, in place of those of the data.
    #[arg(long, value_name = "N", requires = "dry_run", value_parser = clap::value_parser!(u32).range(1..))]
    pair_tokens: Option<u32>,
    /// Prints the summary as one JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = read_config(&arguments);
    let timeout =
        config.as_ref().map_or(default_collective_timeout(), |config| config.train.collective_timeout);
    let ranks = ranks::join(Duration::from_secs(timeout))?;
    let done = train(&arguments, config, ranks.as_ref());
    ranks::leave(ranks.as_ref(), done)
}

/// What must be the same on every rank, or why this one cannot begin.
type Prepared = Result<(Backend, Job, Option<ResumePoint>), Failure>;

fn train(
    arguments: &Arguments,
    config: Result<RunConfig, Failure>,
    ranks: &dyn Collective,
) -> Result<(), Failure> {
    let prepared = || -> Prepared {
        let (backend, config) = (arguments.backend.usable()?, config?);
        let (mut job, resume) = asft_train::prepare(config, arguments.resume)?;
        if let Some(tokens) = arguments.pair_tokens {
            job.plan_pairs_of(tokens as usize);
        }
        Ok((backend, job, resume))
    };
    let (backend, job, resume) = ranks.agree(prepared(), |(backend, job, resume)| {
        let mut facts = asft_train::facts(job, resume.as_ref());
        facts.insert("the backend".to_owned(), backend.name().to_owned());
        facts
    })?;
    let first = ranks.rank() == 0;
    if !first && arguments.dry_run {
        return Ok(());
    }
    if first {
        describe(&job, ranks.size(), arguments.json);
    }
    if arguments.dry_run {
        return print_plan(&job, arguments.json);
    }
    let interrupted = interruptible("stopping after this step")?;
    let mut progress = first.then(Progress::new);
    let outcome = backend::dispatch(
        backend,
        Training { job, resume, ranks, interrupted: &interrupted, progress: progress.as_mut() },
    );
    if let Some(progress) = progress {
        progress.finish();
    }
    match outcome? {
        Outcome::Finished(summary) => print_summary(&summary, arguments.json),
        Outcome::OfRank0 => Ok(()),
        Outcome::InterruptedBefore => Err(Failure::Interrupted(
            "interrupted while the reference model scored the pairs\nhint: the same command goes on from there"
                .to_owned(),
        )),
        Outcome::Interrupted { step, checkpoint } => Err(Failure::Interrupted(format!(
            "interrupted after step {step}; checkpoint: {}\nhint: --resume goes on from there",
            checkpoint.display()
        ))),
    }
}

fn describe(job: &Job, ranks: usize, as_json: bool) {
    job.warn_beyond_budget();
    if job.config.model.path == quickstart::NAME && !as_json {
        note!(
            "quickstart: a tiny model with random weights on a small embedded data set; a demonstration, no benchmark"
        );
    }
    if ranks > 1 {
        note!("{ranks} processes share each step's pairs");
    }
    note!("data: {}", job.train.report.to_string().trim_end());
    if let Some(eval) = &job.eval {
        note!("held out: {} pairs", eval.pairs.len());
        if eval.report != job.train.report {
            note!("held-out data: {}", eval.report.to_string().trim_end());
        }
    }
}

struct Training<'a> {
    job: Job,
    resume: Option<ResumePoint>,
    ranks: &'a dyn Collective,
    interrupted: &'a AtomicBool,
    /// Of the first rank alone.
    progress: Option<&'a mut Progress>,
}

impl Work for Training<'_> {
    type Output = Outcome;

    fn run<A: TrainBackend>(self, device: &A::Device) -> Result<Outcome, Failure> {
        let Self { job, resume, ranks, interrupted, mut progress } = self;
        let mut observe = |event: Event<'_>| {
            if let Some(progress) = &mut progress {
                progress.show(event);
            }
        };
        Ok(asft_train::run::<A>(job, resume, ranks, device, interrupted, &mut observe)?)
    }
}

/// The configuration file, or with `--resume` and none the one of the run itself, or the quickstart's.
fn read_config(arguments: &Arguments) -> Result<RunConfig, Failure> {
    let own = arguments.output.as_ref().filter(|_| arguments.resume).map(|run| run.join("config.toml"));
    let file = arguments.config.clone().or(own.filter(|path| path.is_file()));
    let (text, name) = match &file {
        Some(path) => (read(path)?, path.display().to_string()),
        None => (quickstart::CONFIG.to_owned(), "quickstart.toml (embedded)".to_owned()),
    };
    let mut assignments = arguments.assignments.clone();
    if let Some(output) = &arguments.output {
        let output = output.to_str().ok_or_else(|| {
            Failure::input(format!(
                "--output {}: is not UTF-8\nhint: name another directory",
                output.display()
            ))
        })?;
        assignments.push(format!("train.output={}", json!(output)));
    }
    Ok(RunConfig::parse(&text, &name, arguments.objective.as_deref(), &assignments)?)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::input(format!("{}: {error}", path.display())))
}

/// A first interrupt is told in the flag, and `said` to the user; a second one stops at once.
pub fn interruptible(said: &'static str) -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    on_interrupt(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        if ranks::is_first() {
            note!("{said}; once more stops at once");
        }
    })?;
    Ok(interrupted)
}

fn print_plan(job: &Job, as_json: bool) -> Result<(), Failure> {
    let MemoryPlan { weights, reference, gradients, optimizer, activations, head, process, .. } = job.memory;
    let parts = [
        ("weights", weights),
        ("reference", reference),
        ("gradients", gradients),
        ("optimizer", optimizer),
        ("activations", activations),
        ("head", head),
        ("process", process),
        ("peak", job.memory.peak()),
    ];
    let to_reference = job.pairs_to_reference()?;
    if as_json {
        let bytes: serde_json::Map<_, _> =
            parts.iter().map(|(name, bytes)| (format!("{name}_bytes"), json!(bytes))).collect();
        let plan = json!({
            "parameters": job.model_config.parameters(),
            "trained_parameters": job.trained_parameters,
            "pairs": job.train.pairs.len(),
            "held_out_pairs": job.eval.as_ref().map_or(0, |eval| eval.pairs.len()),
            "steps": job.total_steps,
            "segments": job.segments,
            "micro_batch_tokens": job.micro_batch_tokens,
            "pairs_to_reference": to_reference,
            "memory": bytes,
            "data": job.train.report,
        });
        return output::print(&format!("{plan:#}\n"));
    }
    let mut text = format!(
        "model: {} parameters, {} trained\ntraining pairs: {}\nsteps: {}\nsegments: {} of {} layers\ntokens of a micro-batch: at most {}\n",
        job.model_config.parameters(),
        job.trained_parameters,
        job.train.pairs.len(),
        job.total_steps,
        job.segments,
        job.model_config.num_hidden_layers,
        job.micro_batch_tokens
    );
    if let Some(missing) = to_reference {
        text += &format!("pairs that the reference model scores first: {missing}\n");
    }
    for (name, bytes) in parts {
        text += &format!("memory, {name:<12} {:>9.3} GB\n", bytes as f64 / 1e9);
    }
    output::print(&text)
}

fn print_summary(summary: &Summary, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return output::print(&format!(
            "{}\n",
            serde_json::to_string_pretty(summary).map_err(|error| Failure::Run(error.into()))?
        ));
    }
    let mut text = format!(
        "\n{} trained with {} in {} steps\n",
        summary.output.display(),
        summary.objective,
        summary.steps
    );
    if let (Some(before), Some(after)) = (&summary.before, &summary.after) {
        text += &format!(
            "\n{:<22}{:>10}{:>10}{:>10}\n",
            format!("held out, {} pairs", summary.held_out_pairs),
            "before",
            "after",
            "change"
        );
        for (name, read) in RESULT_ROWS {
            if let (Some(before), Some(after)) = (read(before), read(after)) {
                text += &format!("{name:<22}{before:>10.4}{after:>10.4}{:>+10.4}\n", after - before);
            }
        }
    }
    if let Some(change) = &summary.margin_change {
        let (low, high) = (change.mean - change.half_width, change.mean + change.half_width);
        text += &format!(
            "\nchange of the margin, pair by pair: {:+.4} (95% interval {low:+.4} to {high:+.4})\n",
            change.mean
        );
    }
    text += &format!("\n{:.0} tokens/s", summary.tokens_per_second);
    if let Some(share) = summary.communication_share {
        text += &format!(", {:.1}% of the time in communication", 100.0 * share);
    }
    text += &format!(
        "\ncheckpoint  {}\nreport      {}\n",
        summary.checkpoint.display(),
        summary.report.display()
    );
    output::print(&text)
}
