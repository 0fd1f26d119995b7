//! What one run of a comparison leaves: a small file that outlives its checkpoints.

use std::path::Path;

use asft_train::{
    FREE, Kind, Metrics, RunConfig, checkpoint,
    evaluate::{ScoredPair, mean_metrics},
    first_difference,
    run_directory::{read_evaluation, read_metrics},
};
use serde::{Deserialize, Serialize};

use super::{
    answers::Answers,
    plan::{Plan, Run},
};
use crate::{failure::Failure, output};

/// The result of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its variant.
    pub variant: String,
    /// Its configuration.
    pub config: RunConfig,
    /// Digest of the token ids of all pairs.
    pub data: String,
    /// Pairs trained on.
    pub pairs: usize,
    /// Median over the steps.
    pub seconds_per_step: f64,
    /// Of the whole process; absent where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// By step, the first before training.
    pub evaluations: Vec<Evaluation>,
    /// What the trained model answers to test prompts, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
    /// Each test pair before the first and after the last step.
    pub test_pairs: Vec<TestPair>,
}

/// Held-out means at a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Steps made.
    pub step: usize,
    /// Of the pairs that choose the learning rate.
    pub validation: Split,
    /// Of the others.
    pub test: Split,
}

/// Means over some pairs; evaluations on the way may take fewer of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// How many.
    pub pairs: usize,
    /// Their metrics; absent without pairs.
    pub metrics: Option<Metrics>,
    /// The same pairs before training.
    pub before: Option<Metrics>,
}

/// Log-probs per token of both answers of a test pair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestPair {
    /// 0-based place among the held-out pairs.
    pub place: usize,
    /// Chosen and rejected before training.
    pub before: [f64; 2],
    /// And after it.
    pub after: [f64; 2],
}

impl TestPair {
    /// Changes of the chosen answer's log-prob and of the rejected one's.
    pub fn changes(&self) -> [f64; 2] {
        [self.after[0] - self.before[0], self.after[1] - self.before[1]]
    }
}

impl Record {
    /// Reads a finished run's directory.
    pub fn of_run(plan: &Plan, run: &Run) -> Result<Self, Failure> {
        let directory = plan.run_directory(&run.name);
        let config_file = directory.join("config.toml");
        let text = std::fs::read_to_string(&config_file)
            .map_err(|error| Failure::Run(anyhow::anyhow!("{}: {error}", config_file.display())))?;
        let config = RunConfig::parse(&text, &config_file.display().to_string(), None, &[])?;
        let rows = read_metrics(&directory)?;
        let missing = |what: &str| Failure::Run(anyhow::anyhow!("{}: holds no {what}", directory.display()));
        let newest = checkpoint::newest(&directory)?.ok_or_else(|| missing("whole checkpoint"))?;
        let state = checkpoint::load_state(&newest)?;
        let steps: Vec<_> = rows.iter().filter(|row| row.kind == Kind::Train).collect();
        let mut seconds: Vec<f64> = steps.iter().map(|row| row.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let mut evaluated: Vec<usize> =
            rows.iter().filter(|row| row.kind == Kind::Eval).map(|row| row.step).collect();
        evaluated.sort_unstable();
        let (&first, &last) = match (evaluated.first(), evaluated.last()) {
            (Some(first), Some(last)) if first < last => (first, last),
            _ => return Err(missing("evaluations before and after")),
        };
        let before: Vec<ScoredPair> = read_evaluation(&directory, first)?;
        let validation = plan.validation(before.len());
        let mut evaluations = vec![];
        for &step in &evaluated {
            let now: Vec<ScoredPair> = read_evaluation(&directory, step)?;
            let split = |held: bool| split(&config, &before, &now, |index| validation[index] == held);
            evaluations.push(Evaluation { step, validation: split(true)?, test: split(false)? });
        }
        let after: Vec<ScoredPair> = read_evaluation(&directory, last)?;
        let pairs = before.iter().zip(&after).enumerate().filter(|(place, _)| !validation[*place]);
        let test_pairs = pairs
            .map(|(place, (before, after))| {
                Some(TestPair { place, before: per_token(before)?, after: per_token(after)? })
            })
            .collect::<Option<_>>()
            .ok_or_else(|| missing("rejected answers"))?;
        Ok(Self {
            variant: run.variant.clone(),
            data: state.data,
            pairs: steps.iter().map(|row| row.pairs).sum(),
            seconds_per_step: seconds.get(seconds.len() / 2).copied().unwrap_or(0.0),
            peak_memory_bytes: rows.iter().filter_map(|row| row.peak_memory_bytes).max(),
            evaluations,
            answers: None,
            test_pairs,
            config,
        })
    }

    /// Reads the file of an earlier result, which must be one of this very run; `None` where there is none.
    pub fn read(plan: &Plan, run: &Run) -> Result<Option<Self>, Failure> {
        let path = plan.result_file(&run.name);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::input(format!("{}: {error}", path.display()))),
            Ok(text) => text,
        };
        let hint = "hint: move it away to have the run made again, or compare into another directory";
        let bad = |what: String| {
            Failure::input(format!("{}: is no result of a run: {what}\n{hint}", path.display()))
        };
        let record: Self = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if record.evaluations.len() < 2 || record.variant != run.variant {
            return Err(bad("it lacks evaluations or is of another variant".to_owned()));
        }
        // Files may lie elsewhere than they did; that they hold the same pairs shows in their digest.
        let free = |key: &str| {
            FREE.contains(&key)
                || ["data.train", "data.eval"].contains(&key)
                || (key == "data.template_date" && run.config.data.template_date.is_empty())
        };
        if let Some([key, was, now]) = first_difference(&record.config, &run.config, free) {
            return Err(Failure::input(format!(
                "{}: was made with {key} = {was}, the comparison says {now}\n{hint}",
                path.display()
            )));
        }
        let (was, now) = (record.last().validation.pairs, plan.settings.validation_pairs);
        if was != now {
            return Err(Failure::input(format!(
                "{}: was made with compare.validation_pairs = {was}, the comparison says {now}\n{hint}",
                path.display()
            )));
        }
        Ok(Some(record))
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string(self).map_err(|error| Failure::Run(error.into()))?;
        output::write_file(path, (text + "\n").as_bytes())
    }

    /// The evaluation after the last step.
    pub fn last(&self) -> &Evaluation {
        self.evaluations.last().expect("two evaluations at least")
    }
}

fn per_token(pair: &ScoredPair) -> Option<[f64; 2]> {
    let rejected = pair.scores.rejected.as_ref()?;
    let chosen = &pair.scores.chosen;
    // A millionth of a nat is far below what rounding in f32 leaves.
    let round = |value: f64| (value * 1e6).round() / 1e6;
    Some([round(chosen.logp_sum / chosen.tokens as f64), round(rejected.logp_sum / rejected.tokens as f64)])
}

fn split(
    config: &RunConfig,
    before: &[ScoredPair],
    now: &[ScoredPair],
    of: impl Fn(usize) -> bool,
) -> Result<Split, Failure> {
    let part = |scored: &[ScoredPair]| -> Vec<ScoredPair> {
        let of_part = scored[..now.len()].iter().enumerate().filter(|(index, _)| of(*index));
        of_part.map(|(_, pair)| pair.clone()).collect()
    };
    let metrics = |scored: &[ScoredPair]| match scored.is_empty() {
        true => Ok(None),
        false => mean_metrics(&config.objective, scored)
            .map(Some)
            .map_err(|error| Failure::Run(anyhow::anyhow!("evaluation: {error}"))),
    };
    let (before, now) = (part(before), part(now));
    Ok(Split { pairs: now.len(), metrics: metrics(&now)?, before: metrics(&before)? })
}
