//! `asft bench train`.

use std::time::Instant;

use asft_data::{EncodedPair, PairBatch, pack::ScoredRows};
use asft_model::{AttentionLayout, LlamaConfig, TrainBackend};
use asft_train::{Alone, Job, Reference, RunConfig, Trainer, memory};
use clap::Args;
use serde_json::json;

use super::Workload;
use crate::{
    backend::{self, Backend, Work, device_memory_in_use, matmul_gflops},
    failure::Failure,
    output::{self, note},
};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    workload: Workload,
    /// Trains with this objective and its defaults.
    #[arg(long, value_name = "NAME")]
    objective: Option<String>,
}

pub fn run(Arguments { workload, objective }: Arguments) -> Result<(), Failure> {
    let backend = workload.backend.usable()?;
    if workload.pairs == 0 {
        return Err(Failure::input("--pairs must be at least 1"));
    }
    // Of its own, so that every measurement starts alike.
    let cache = tempfile::tempdir().map_err(|error| Failure::Run(error.into()))?;
    let mut assignments = vec![
        format!("reference.cache={}", json!(cache.path())),
        format!("model.path={}", json!(workload.model)),
        format!("data.train=[{}]", json!(workload.data)),
        "train.output=\"unused\"".to_owned(),
        "data.shuffle=false".to_owned(),
        "train.epochs=1".to_owned(),
        format!("train.pairs_per_step={}", workload.pairs_per_step),
    ];
    assignments.extend(workload.assignments);
    let config = RunConfig::parse("[model]\n[data]\n[train]\n", "bench", objective.as_deref(), &assignments)?;
    let job = Job::read_first(config, Some(workload.pairs))?;
    job.warn_beyond_budget();
    let result = backend::dispatch(backend, Benchmark { job, backend })?;
    output::print(&format!("{result:#}\n"))
}

struct Benchmark {
    job: Job,
    backend: Backend,
}

impl Work for Benchmark {
    type Output = serde_json::Value;

    fn run<A: TrainBackend>(self, device: &A::Device) -> Result<Self::Output, Failure> {
        let mut job = self.job;
        let (model, weight_type) = (job.config.model.path.clone(), job.config.model.dtype);
        let work = Arithmetic::of(&job);
        let total_steps = job.total_steps;
        let epochs = job.config.train.epochs;
        let pairs = epochs * job.train.pairs.len();
        let (plan, expected) = (job.memory, job.memory.peak());
        let parts = |pair: &EncodedPair| [pair.prompt.len(), pair.chosen.len(), pair.rejected.len()];
        let lengths: Vec<_> = job.train.pairs.iter().map(parts).collect();
        let started = Instant::now();
        let reference =
            Reference::prepare(&mut job, &Alone, device, |_, _| true)?.expect("it is not stopped");
        let reference_seconds = started.elapsed().as_secs_f64();
        let mut trainer = Trainer::<A>::new(job, reference, None, &Alone, device)?;
        trainer.time_phases();
        let started = Instant::now();
        let (mut losses, mut seconds) = (vec![], vec![]);
        for _ in 0..total_steps {
            let row = trainer.make_step().map_err(|error| Failure::Run(error.into()))?;
            losses.push(row.metrics.loss);
            seconds.push(row.seconds);
            note!("step {}/{total_steps}: loss {:.4}, {:.1} s", row.step, row.metrics.loss, row.seconds);
        }
        A::sync(device).map_err(|error| Failure::Run(anyhow::anyhow!("{error:?}")))?;
        let whole = started.elapsed().as_secs_f64();
        let (peak, on_device) = (memory::peak_bytes(), device_memory_in_use(self.backend));
        let phases = json!(trainer.phases().seconds());
        drop(trainer);
        Ok(json!({
            "backend": self.backend.name(),
            "dtype": weight_type.name(),
            "model": model,
            "reference_seconds": reference_seconds,
            "seconds_per_step": whole / total_steps as f64,
            "step_seconds": seconds,
            "phase_seconds": phases,
            "pairs_per_second": pairs as f64 / whole,
            "tokens_per_second": (epochs * work.tokens) as f64 / whole,
            "peak_memory_bytes": peak,
            "device_memory_bytes": on_device,
            "expected_memory_bytes": expected,
            "segments": plan.segments,
            "micro_batch_tokens": plan.micro_batch_tokens,
            "epochs": epochs,
            "pairs": pairs,
            "tokens": work.tokens,
            "scored_tokens": work.scored_tokens,
            "epoch_flops": work.flops,
            "pair_tokens": lengths,
            "losses": losses,
            "step_gflops": epochs as f64 * work.flops as f64 / whole / 1e9,
            "matmul_gflops": matmul_gflops::<A::InnerBackend>(device, weight_type.dtype().into(), 2048)?,
        }))
    }
}

/// What an epoch over a job's pairs takes, recomputation not counted.
struct Arithmetic {
    tokens: usize,
    scored_tokens: usize,
    flops: u64,
}

impl Arithmetic {
    /// A product of a row with a matrix takes 2 FLOP a weight forward and 4 backward; attention takes a product
    /// with keys and one with values for each visible (query, key) and head, and twice that backward.
    fn of(job: &Job) -> Self {
        let config: &LlamaConfig = &job.model_config;
        let batch = PairBatch::new(&job.train.pairs);
        let ScoredRows { rows, .. } = batch.scored(job.config.objective.needs_prompt_scores());
        let answers = batch.scored(false).rows.len();
        let (q, kv) =
            (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let block = config.hidden_size * (2 * q + 2 * kv + 3 * config.intermediate_size);
        let visible = AttentionLayout::of_pairs(&batch.segments).visible_pairs();
        let blocks = config.num_hidden_layers * (6 * block * batch.token_ids.len() + 12 * visible * q);
        let head = 6 * config.vocab_size * config.hidden_size * rows.len();
        Self { tokens: batch.token_ids.len(), scored_tokens: answers, flops: (blocks + head) as u64 }
    }
}
