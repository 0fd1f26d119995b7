//! `asft compare`: several objectives from the same model on the same pairs, each at its best learning rate, with
//! several seeds, evaluated alike.

mod answers;
mod benchmarks;
mod launch;
mod plan;
mod record;
mod report;
mod summary;

use std::path::PathBuf;

use asft_train::Job;
use clap::Args;

use self::{
    launch::Launcher,
    plan::{Plan, Run},
    record::Record,
    summary::Summary,
};
use crate::{
    backend::Backend,
    failure::Failure,
    output::{self, note},
};

#[derive(Args)]
pub struct Arguments {
    /// The comparison (TOML): a training configuration with a compare table and one table of variants each.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Sets one key, for example compare.validation_pairs=50; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Where to compute.
    #[arg(long, value_enum, default_value = "auto")]
    backend: Backend,
    /// Checks everything and prints the runs, without training.
    #[arg(long)]
    dry_run: bool,
    /// Writes the report of the results there are, without training.
    #[arg(long, conflicts_with = "dry_run")]
    report_only: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let file = arguments.config.display().to_string();
    let text = std::fs::read_to_string(&arguments.config)
        .map_err(|error| Failure::input(format!("{file}: {error}")))?;
    let plan = Plan::read(&text, &file, &arguments.assignments)?;
    let mut command = format!("asft compare --config {file}");
    for assignment in &arguments.assignments {
        command += &format!(" --set '{assignment}'");
    }
    if arguments.report_only {
        let (records, open) = survey(&plan)?;
        open.iter().for_each(|run| note!("{}: no result yet", run.name));
        return finish(&plan, &command, &records);
    }
    benchmarks::read(&plan.settings.summaries)?;
    let job = check_data(&plan)?;
    if arguments.dry_run {
        return print_runs(&plan);
    }
    for part in ["configs", "results", "runs"] {
        let directory = plan.settings.output.join(part);
        std::fs::create_dir_all(&directory)
            .map_err(|error| Failure::input(format!("{}: {error}", directory.display())))?;
    }
    let launcher = Launcher::new(arguments.backend)?;
    loop {
        let (records, open) = survey(&plan)?;
        let Some(run) = open.first() else { return finish(&plan, &command, &records) };
        note!("{} of {}: {}", records.len() + 1, all_runs(&plan), run.name);
        launcher.train(&plan, run)?;
        let mut record = Record::of_run(&plan, run)?;
        let directory = plan.run_directory(&run.name);
        record.answers = answers::answer(&plan, &job, &run.config, &directory, arguments.backend)?;
        record.write(&plan.result_file(&run.name))?;
        if !plan.settings.keep_checkpoints {
            let checkpoints = plan.run_directory(&run.name).join("checkpoints");
            std::fs::remove_dir_all(&checkpoints)
                .map_err(|error| Failure::Run(anyhow::anyhow!("{}: {error}", checkpoints.display())))?;
        }
    }
}

/// Results there are, and the runs that are known to be wanted and have none: first those that choose learning rates.
fn survey(plan: &Plan) -> Result<(Vec<Record>, Vec<Run>), Failure> {
    let settings = &plan.settings;
    let (mut records, mut open) = (vec![], vec![]);
    let mut look = |records: &mut Vec<Record>, variant: &str, rate: f64, seed: u64| {
        let run = plan.run(variant, rate, seed)?;
        match Record::read(plan, &run)? {
            Some(record) => records.push(record),
            None => open.push(run),
        }
        Ok::<_, Failure>(())
    };
    for variant in &plan.variants {
        for &rate in &settings.learning_rates {
            look(&mut records, variant, rate, settings.seeds[0])?;
        }
    }
    for variant in &plan.variants {
        if let Some(rate) = Summary::new(plan, variant, &records).chosen {
            for &seed in &settings.seeds[1..] {
                look(&mut records, variant, rate, seed)?;
            }
        }
    }
    let digest = |record: &Record| record.data.clone();
    if let Some(other) = records.iter().find(|record| digest(record) != records[0].data) {
        let output = settings.output.display();
        return Err(Failure::input(format!(
            "{output}: results are not all of the same pairs: those of {} are not those of {}\nhint: restore the data files, or compare into another directory",
            other.config.train.output, records[0].config.train.output
        )));
    }
    Ok((records, open))
}

/// Runs of the whole comparison.
fn all_runs(plan: &Plan) -> usize {
    plan.variants.len() * (plan.settings.learning_rates.len() + plan.settings.seeds.len() - 1)
}

/// Reads the data once before hours are spent.
fn check_data(plan: &Plan) -> Result<Job, Failure> {
    let settings = &plan.settings;
    let run = plan.run(&plan.variants[0], settings.learning_rates[0], settings.seeds[0])?;
    let job = Job::read(run.config)?;
    let held_out = job.eval.as_ref().map_or(0, |eval| eval.pairs.len());
    if held_out < settings.validation_pairs + 2 {
        return Err(Failure::input(format!(
            "compare.validation_pairs = {}: {held_out} pairs are held out, and the test needs two of them at least\nhint: raise data.eval_pairs, or name more in data.eval",
            settings.validation_pairs
        )));
    }
    for data in [Some(&job.train), job.eval.as_ref()].into_iter().flatten() {
        if let Some(origin) = data.first_without_rejected() {
            return Err(Failure::input(format!(
                "{origin}: has no rejected answer, and pairs are what is compared on"
            )));
        }
    }
    note!("data: {}", job.train.report.to_string().trim_end());
    note!(
        "held out: {} pairs to choose learning rates, {} to test",
        settings.validation_pairs,
        held_out - settings.validation_pairs
    );
    Ok(job)
}

fn print_runs(plan: &Plan) -> Result<(), Failure> {
    let (records, open) = survey(plan)?;
    let mut text = format!("{} runs, {} with a result\n", all_runs(plan), records.len());
    for run in &open {
        text += &format!("open  {}\n", run.name);
    }
    let later = all_runs(plan) - records.len() - open.len();
    if later > 0 {
        text += &format!("then {later} more, with the learning rates that these choose\n");
    }
    output::print(&text)
}

fn finish(plan: &Plan, command: &str, records: &[Record]) -> Result<(), Failure> {
    if records.is_empty() {
        let output = plan.settings.output.display();
        return Err(Failure::input(format!("{output}: holds no result of this comparison yet")));
    }
    let summaries = benchmarks::read(&plan.settings.summaries)?;
    let table = report::write(plan, command, records, &summaries)?;
    let directory = plan.settings.output.display();
    output::print(&format!("{table}\n{directory}/report.md\n{directory}/report.html\n"))
}
