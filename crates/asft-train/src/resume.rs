//! Whether a run may start, or go on, in the directory it names.

use std::path::{Path, PathBuf};

use asft_model::{
    Llama, LlamaBackend,
    checkpoint::{Checkpoint, PeftAdapter},
};
use sha2::{Digest, Sha256};

use crate::{
    checkpoint::{self, RunState, hex},
    collective::Facts,
    config::{Count, RunConfig},
    error::TrainError,
    job::Job,
    run_directory::{Found, RunDirectory},
};

/// A whole checkpoint and what it says of the run.
#[derive(Clone, Debug)]
pub struct ResumePoint {
    /// The checkpoint's directory.
    pub checkpoint: PathBuf,
    /// Where the run stood.
    pub state: RunState,
}

/// Reads the inputs of a run and looks at its directory, which is not touched. Without `resume` it must hold
/// no run; with it, this very run, whose newest whole checkpoint is returned if it has one.
pub fn prepare(mut config: RunConfig, resume: bool) -> Result<(Job, Option<ResumePoint>), TrainError> {
    let run = PathBuf::from(&config.train.output);
    let resume = match (RunDirectory::inspect(&run)?, resume) {
        (Found::Nothing, false) => None,
        (Found::Nothing, true) => {
            return Err(run_error(&run, "holds no run to resume\nhint: leave --resume out to start one"));
        }
        (Found::Run(_), false) => {
            let what =
                "already holds a run\nhint: --resume goes on with it, --output names another directory";
            return Err(run_error(&run, what));
        }
        (Found::Run(was), true) => {
            let (train, before) = (&mut config.train, &was.train);
            for (count, before) in [
                (&mut train.segments, before.segments),
                (&mut train.micro_batch_tokens, before.micro_batch_tokens),
            ] {
                if *count == Count::Auto {
                    *count = before;
                }
            }
            if config.data.template_date.is_empty() {
                config.data.template_date.clone_from(&was.data.template_date);
            }
            check_unchanged(&run, &was, &config)?;
            ResumePoint::newest(&run)?
        }
    };
    let job = Job::read(config)?;
    if let Some(resume) = &resume
        && resume.state.data != job.data_digest
    {
        let what = "the training or held-out data is not what the run was started with\nhint: restore the files, or start another output directory";
        return Err(run_error(&run, what));
    }
    if let Some(resume) = &resume
        && resume.state.reference.as_deref() != job.reference_digest()
    {
        let what = "the reference model is not the one that the run was started with\nhint: name that one in reference.path, or start another output directory";
        return Err(run_error(&run, what));
    }
    if let Some(resume) = &resume
        && resume.state.base.as_deref() != job.base.as_ref().map(|base| base.digest.as_str())
    {
        let what = "the model under the adapters is not the one that the run was started with\nhint: name that one in model.path, or start another output directory";
        return Err(run_error(&run, what));
    }
    Ok((job, resume))
}

/// What must be the same on every rank before they train together: the program, the settings that are not [`FREE`], the
/// data, and where the run stands. The weights are compared once they are loaded.
pub fn facts(job: &Job, resume: Option<&ResumePoint>) -> Facts {
    let program =
        std::env::current_exe().and_then(std::fs::read).map(|program| hex(&Sha256::digest(program)));
    let mut facts = Facts::from([
        ("the program".to_owned(), program.unwrap_or_else(|error| format!("unreadable ({error})"))),
        ("the data".to_owned(), job.data_digest.clone()),
    ]);
    facts.extend(job.reference_digest().map(|digest| ("the reference model".to_owned(), digest.to_owned())));
    facts.extend(
        job.base.as_ref().map(|base| ("the model under the adapters".to_owned(), base.digest.clone())),
    );
    facts.values_mut().for_each(|digest| digest.truncate(16));
    facts.extend(settings(&job.config).into_iter().filter(|(key, _)| !FREE.contains(&key.as_str())));
    let step = resume.map_or("none".to_owned(), |resume| format!("step {}", resume.state.step));
    facts.insert("the checkpoint".to_owned(), step);
    facts
}

impl ResumePoint {
    fn newest(run: &Path) -> Result<Option<Self>, TrainError> {
        let Some(checkpoint) = checkpoint::newest(run)? else { return Ok(None) };
        Ok(Some(Self { state: checkpoint::load_state(&checkpoint)?, checkpoint }))
    }

    /// Reads the weights onto a device; where adapters are trained, those that are frozen come from `job`.
    pub fn load_model<B: LlamaBackend>(
        &self,
        job: &mut Job,
        device: &B::Device,
    ) -> Result<Llama<B>, TrainError> {
        if job.config.lora.is_some() {
            return job.load_model(Some(&mut PeftAdapter::open(&self.checkpoint)?), device);
        }
        let mut checkpoint = Checkpoint::open(&self.checkpoint)?;
        let weight_type = job.weight_type::<B>(device)?;
        Ok(Llama::load_as(weight_type, None, &job.model_config, checkpoint.weights(), device)?)
    }
}

/// Keys that may differ between a run and its resumption: none of them changes what is computed, but segments
/// and micro_batch_tokens by the order of summation.
pub const FREE: [&str; 10] = [
    "train.output",
    "train.save_every_steps",
    "train.keep_checkpoints",
    "train.memory_budget",
    "train.segments",
    "train.micro_batch_tokens",
    "train.collective_timeout",
    "model.path",
    "reference.path",
    "reference.cache",
];

fn check_unchanged(run: &Path, was: &RunConfig, now: &RunConfig) -> Result<(), TrainError> {
    match first_difference(was, now, |key| FREE.contains(&key)) {
        Some([key, was, now]) => Err(TrainError::Changed { path: run.to_owned(), key, was, now }),
        None => Ok(()),
    }
}

/// The first key in which two configurations differ that is not `free`, with both values.
pub fn first_difference(
    was: &RunConfig,
    now: &RunConfig,
    free: impl Fn(&str) -> bool,
) -> Option<[String; 3]> {
    let (was, now) = (settings(was), settings(now));
    let find = |keys: &[(String, String)], key: &str| {
        keys.iter().find(|(name, _)| name == key).map_or("absent".to_owned(), |(_, value)| value.clone())
    };
    was.iter().chain(&now).find_map(|(key, _)| {
        let (was, now) = (find(&was, key), find(&now, key));
        (was != now && !free(key)).then(|| [key.clone(), was, now])
    })
}

/// Key paths of a configuration and their values.
fn settings(config: &RunConfig) -> Vec<(String, String)> {
    let mut keys = vec![];
    flatten("", &toml::Value::try_from(config).expect("every setting has a TOML form"), &mut keys);
    keys
}

fn flatten(prefix: &str, value: &toml::Value, keys: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(name, value)| {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            flatten(&path, value, keys);
        }),
        value => keys.push((prefix.to_owned(), value.to_string())),
    }
}

fn run_error(path: &Path, what: &str) -> TrainError {
    TrainError::RunDirectory { path: path.to_owned(), what: what.to_owned() }
}
