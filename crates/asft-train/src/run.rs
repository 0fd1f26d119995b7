//! A run: the training loop, and everything it leaves on disk.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use asft_core::Metrics;
use asft_model::TrainBackend;
use burn::module::AutodiffModule;
use serde::Serialize;

use crate::{
    checkpoint::{self, Snapshot},
    collective::Collective,
    error::{StepError, TrainError},
    evaluate::{MarginChange, ScoredPair},
    job::Job,
    metrics::{Kind, MetricsRow, Speed},
    reference::Reference,
    report,
    resume::ResumePoint,
    run_directory::{RunDirectory, read_evaluation, read_metrics},
    trainer::Trainer,
};

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many of the pairs are scored by the reference model.
    Referencing {
        /// Pairs done.
        done: usize,
        /// Pairs that were not known from an earlier run.
        total: usize,
    },
    /// The model is loaded; steps `from..total` follow.
    Started {
        /// Steps already made.
        from: usize,
        /// Steps of the whole run.
        total: usize,
    },
    /// An optimizer step was made.
    Step(&'a MetricsRow),
    /// So many of the held-out pairs are scored.
    Evaluating {
        /// Pairs done.
        done: usize,
        /// Pairs of this evaluation.
        total: usize,
    },
    /// An evaluation is complete.
    Evaluated(&'a MetricsRow),
    /// A checkpoint is on disk.
    Saved(&'a Path),
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All steps are made.
    Finished(Box<Summary>),
    /// It was asked to stop while the reference model scored the pairs; what is done is kept.
    InterruptedBefore,
    /// It was asked to stop and wrote a checkpoint.
    Interrupted {
        /// Steps made.
        step: usize,
        /// The checkpoint.
        checkpoint: PathBuf,
    },
    /// Rank 0 has the outcome; this is another.
    OfRank0,
}

/// Result of a whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The run directory.
    pub output: PathBuf,
    /// Name of the objective.
    pub objective: String,
    /// Optimizer steps.
    pub steps: usize,
    /// Held-out pairs evaluated before and after; 0 without held-out data.
    pub held_out_pairs: usize,
    /// Held-out metrics before the first step.
    pub before: Option<Metrics>,
    /// Held-out metrics after the last step.
    pub after: Option<Metrics>,
    /// Paired change of the held-out margin.
    pub margin_change: Option<MarginChange>,
    /// Tokens a second over all steps.
    pub tokens_per_second: f64,
    /// Share of the steps' time in which ranks exchanged or waited for each other; absent for one process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub communication_share: Option<f64>,
    /// The newest checkpoint, loadable by transformers.
    pub checkpoint: PathBuf,
    /// The page with the curves.
    pub report: PathBuf,
}

/// Runs a job to its last step, from its resume point if it has one, or until `interrupted` is set, which is
/// looked at between steps and between the micro-batches of an evaluation.
///
/// All `ranks` run the same job and stop together; rank 0 writes.
pub fn run<A: TrainBackend>(
    mut job: Job,
    resume: Option<ResumePoint>,
    ranks: &dyn Collective,
    device: &A::Device,
    interrupted: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, TrainError> {
    if ranks.rank() == 0 {
        RunDirectory::check_writable(job.config.train.output.as_ref())?;
    }
    job.plan_alike(ranks)?;
    let reference = Reference::prepare(&mut job, ranks, device, |done, total| {
        observe(Event::Referencing { done, total });
        !interrupted.load(Ordering::Relaxed)
    })?;
    let Some(reference) = reference else { return Ok(Outcome::InterruptedBefore) };
    let mut run = Run::start(Trainer::<A>::new(job, reference, resume.as_ref(), ranks, device)?, resume)?;
    let (total, every) = (run.trainer.job().total_steps, run.trainer.job().config.train.save_every_steps);
    observe(Event::Started { from: run.trainer.step(), total });
    loop {
        let whole = run.evaluate_if_due(interrupted, observe)?;
        let step = run.trainer.step();
        let stop = !whole || ranks.any(interrupted.load(Ordering::Relaxed))?;
        if stop || step == total || (every > 0 && step > 0 && step.is_multiple_of(every)) {
            run.save(observe)?;
        }
        if stop || step == total {
            return run.end(stop);
        }
        let row = run.trainer.make_step().map_err(|error| run.diverged(error))?;
        if let Some(directory) = &mut run.directory {
            directory.append(&row)?;
        }
        observe(Event::Step(&row));
    }
}

struct Run<'a, A: TrainBackend> {
    trainer: Trainer<'a, A>,
    /// Of rank 0 alone.
    directory: Option<RunDirectory>,
    newest_checkpoint: Option<(usize, PathBuf)>,
}

impl<'a, A: TrainBackend> Run<'a, A> {
    fn start(trainer: Trainer<'a, A>, resume: Option<ResumePoint>) -> Result<Self, TrainError> {
        let config = &trainer.job().config;
        let newest_checkpoint = resume.map(|resume| (resume.state.step, resume.checkpoint));
        let step = newest_checkpoint.as_ref().map(|(step, _)| *step);
        let mut directory = None;
        if trainer.ranks().rank() == 0 {
            let path = Path::new(&config.train.output);
            directory = Some(RunDirectory::open(path, config, step)?);
            checkpoint::remove_partial(path).map_err(TrainError::io(path))?;
        }
        Ok(Self { trainer, directory, newest_checkpoint })
    }

    /// Evaluates where the run stands, if that is due and has not been done. False if it was interrupted.
    fn evaluate_if_due(
        &mut self,
        interrupted: &AtomicBool,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<bool, TrainError> {
        let (job, step) = (self.trainer.job(), self.trainer.step());
        let train = &job.config.train;
        let Some(held_out) = job.eval.as_ref().map(|eval| eval.pairs.len()) else { return Ok(true) };
        let at_an_end = step == 0 || step == job.total_steps;
        let on_the_way = train.eval_every_steps > 0 && step.is_multiple_of(train.eval_every_steps);
        if !(at_an_end || on_the_way) {
            return Ok(true);
        }
        let done =
            self.directory.as_ref().map(|directory| evaluation_at(directory, step)).transpose()?.flatten();
        if self.trainer.ranks().first(done.is_some())? {
            return Ok(true);
        }
        let total = match train.eval_pairs {
            count if count > 0 && !at_an_end => count.min(held_out),
            _ => held_out,
        };
        let evaluated = self.trainer.evaluate(total, |done| {
            observe(Event::Evaluating { done, total });
            !interrupted.load(Ordering::Relaxed)
        });
        let Some((row, scored)) = evaluated.map_err(|error| self.diverged(error))? else { return Ok(false) };
        if let Some(directory) = &mut self.directory {
            directory.write_evaluation(step, &scored)?;
            directory.append(&row)?;
        }
        observe(Event::Evaluated(&row));
        Ok(true)
    }

    /// Writes a checkpoint of this step unless there is one.
    fn save(&mut self, observe: &mut dyn FnMut(Event<'_>)) -> Result<(), TrainError> {
        let (job, step) = (self.trainer.job(), self.trainer.step());
        let Some(directory) = &self.directory else { return Ok(()) };
        if self.newest_checkpoint.as_ref().is_some_and(|(saved, _)| *saved == step) {
            return Ok(());
        }
        self.trainer.check_weights().map_err(|error| self.diverged(error))?;
        directory.sync()?;
        let snapshot = Snapshot {
            config: &job.model_config,
            model: &self.trainer.model().valid(),
            adapters: job.config.lora.as_ref().zip(job.base.as_ref().map(|base| base.name.as_str())),
            files: job.tokenizer.files(),
            moments: self.trainer.optimizer().moments(),
            state: &self.trainer.state(),
        };
        let path = checkpoint::save(directory.path(), &snapshot, job.config.train.keep_checkpoints)?;
        self.newest_checkpoint = Some((step, path.clone()));
        observe(Event::Saved(&path));
        Ok(())
    }

    /// The outcome of a run whose last step was saved, with its report.
    fn end(self, stopped: bool) -> Result<Outcome, TrainError> {
        let Some(directory) = self.directory else { return Ok(Outcome::OfRank0) };
        let checkpoint = self.newest_checkpoint.map(|(_, path)| path).expect("the last step was saved");
        let (path, config, step) = (directory.path(), &self.trainer.job().config, self.trainer.step());
        let rows = read_metrics(path)?;
        let report = report::write(path, config, &rows)?;
        if stopped {
            return Ok(Outcome::Interrupted { step, checkpoint });
        }
        let (before, after) = (evaluation_at(&directory, 0)?, evaluation_at(&directory, step)?);
        let margin_change = match (&before, &after) {
            (Some(_), Some(_)) => {
                let read = |step| read_evaluation::<ScoredPair>(path, step);
                MarginChange::between(&read(0)?, &read(step)?)
            }
            _ => None,
        };
        let speed = Speed::of(&rows);
        Ok(Outcome::Finished(Box::new(Summary {
            output: path.to_owned(),
            objective: config.objective.name().to_owned(),
            steps: step,
            held_out_pairs: after.as_ref().map_or(0, |row| row.pairs),
            before: before.map(|row| row.metrics),
            after: after.map(|row| row.metrics),
            margin_change,
            tokens_per_second: speed.tokens_per_second,
            communication_share: speed.communication_share,
            checkpoint,
            report,
        })))
    }

    fn diverged(&self, source: StepError) -> TrainError {
        match source {
            StepError::Collective(error) => error.into(),
            source => TrainError::Diverged {
                source,
                checkpoint: self.newest_checkpoint.as_ref().map(|(_, path)| path.clone()),
            },
        }
    }
}

fn evaluation_at(directory: &RunDirectory, step: usize) -> Result<Option<MetricsRow>, TrainError> {
    let rows = read_metrics(directory.path())?;
    Ok(rows.into_iter().find(|row| row.kind == Kind::Eval && row.step == step))
}
