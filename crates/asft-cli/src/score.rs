//! `asft score`.

use std::path::PathBuf;

use asft_core::{Objective, PairScores};
use asft_data::{
    Dataset, EncodedPair, Tokenizer, read::Source, schema::Format, template::TemplateChoice,
    truncation::Truncation,
};
use asft_model::{Quantization, TrainBackend, WeightType, checkpoint::SavedModel};
use asft_train::{
    check_same_tokenizer,
    config::DataSettings,
    evaluate::{ScoredPair, score_pairs},
    load_options, open_checkpoint, warn_beyond_positions,
};
use burn::tensor::backend::AutodiffBackend;
use clap::Args;
use serde_json::{Value, json};

use crate::{
    backend::{self, Backend, Work},
    failure::Failure,
    output::{self, note},
};

#[derive(Args)]
pub struct Arguments {
    /// A Hugging Face directory, a GGUF file, a directory of an adapter or a run directory.
    #[arg(long, value_name = "M")]
    model: PathBuf,
    #[command(flatten)]
    data: DataArguments,
    /// Adds this objective's loss and derivatives to each line.
    #[arg(long, value_name = "NAME")]
    objective: Option<String>,
    /// The frozen model of objectives that need one: as --model, with the same tokenizer.
    #[arg(long, value_name = "M2")]
    reference: Option<PathBuf>,
    /// Where the lines go.
    #[arg(long, value_name = "OUT.jsonl")]
    output: PathBuf,
    /// Most tokens of one forward pass.
    #[arg(long, default_value_t = 8192)]
    micro_batch_tokens: usize,
    /// Type of the weights: f32 or bf16.
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// Keeps the blocks' projections as codes: int8 or nf4, as lora.quantization trains on them. Not the reference's.
    #[arg(long, value_name = "CODE")]
    quantization: Option<String>,
    /// Where to compute.
    #[arg(long, value_enum, default_value = "auto")]
    backend: Backend,
}

/// Which pairs, for commands that read data without a configuration.
#[derive(Args)]
pub struct DataArguments {
    /// File or glob of preference pairs.
    #[arg(long, value_name = "F")]
    pub data: String,
    /// Schema of the rows, or auto.
    #[arg(long, default_value = "auto")]
    pub format: String,
    /// Most tokens of prompt and one answer together.
    #[arg(long, default_value_t = 2048)]
    pub max_length: usize,
    /// What happens to longer pairs: drop, keep-start or keep-end.
    #[arg(long, default_value = "drop")]
    pub truncation: String,
    /// The chat template: model, none or a file.
    #[arg(long, default_value = "model")]
    pub template: String,
    /// The day that templates print, YYYY-MM-DD.
    #[arg(long, default_value = "")]
    pub template_date: String,
}

impl DataArguments {
    /// Reads the pairs.
    pub fn load(&self, tokenizer: &Tokenizer) -> Result<Dataset, Failure> {
        let format: Format = parse("--format", &self.format)?;
        let truncation: Truncation = parse("--truncation", &self.truncation)?;
        let settings = DataSettings {
            train: vec![self.data.clone()],
            eval: vec![],
            eval_fraction: 0.0,
            eval_pairs: 0,
            eval_seed: None,
            format,
            max_length: self.max_length,
            truncation,
            min_response_tokens: 0,
            shuffle: false,
            template: TemplateChoice::from(self.template.clone()),
            template_date: self.template_date.clone(),
        };
        let sources = Source::expand(&settings.train)?;
        Ok(Dataset::load(&load_options(&settings, sources, tokenizer)?, tokenizer)?)
    }
}

/// A word of the command line as the setting that it names.
pub fn parse<T: serde::de::DeserializeOwned>(option: &str, text: &str) -> Result<T, Failure> {
    serde_json::from_value(Value::String(text.to_owned()))
        .map_err(|error| Failure::input(format!("{option}: {error}")))
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let backend = arguments.backend.usable()?;
    let objective = arguments.objective.as_deref().map(by_name).transpose()?;
    if arguments.micro_batch_tokens == 0 {
        return Err(Failure::input("--micro-batch-tokens must be at least 1"));
    }
    let weight_type: WeightType = parse("--dtype", &arguments.dtype)?;
    let quantization: Option<Quantization> =
        arguments.quantization.as_deref().map(|code| parse("--quantization", code)).transpose()?;
    let (checkpoint, tokenizer) = open_checkpoint(&arguments.model)?;
    warn_beyond_positions(arguments.data.max_length, checkpoint.config());
    let reference = match (&objective, &arguments.reference) {
        (Some(objective), Some(path)) if objective.needs_reference() => {
            let (checkpoint, own_tokenizer) = open_checkpoint(path)?;
            check_same_tokenizer(path, &own_tokenizer, &tokenizer)?;
            Some(checkpoint)
        }
        (Some(objective), None) if objective.needs_reference() => {
            return Err(Failure::input(format!(
                "objective {} compares with a reference model\nhint: name it with --reference M2",
                objective.name()
            )));
        }
        (_, Some(_)) => {
            note!("--reference is not read: only an objective with a reference model needs it");
            None
        }
        (_, None) => None,
    };
    let dataset = arguments.data.load(&tokenizer)?;
    if let Some(objective) = objective.as_ref().filter(|objective| objective.needs_rejected())
        && let Some(origin) = dataset.first_without_rejected()
    {
        return Err(Failure::input(format!(
            "{origin}: the row has no rejected answer, which objective {} needs",
            objective.name()
        )));
    }
    output::check_writable(&arguments.output, &[arguments.data.data.clone().into()])?;
    note!("data: {}", dataset.report.to_string().trim_end());
    let prompts = objective.as_ref().is_some_and(Objective::needs_prompt_scores);
    let score = |checkpoint, quantization, prompts| {
        let micro_batch_tokens = arguments.micro_batch_tokens;
        let scoring =
            Scoring { checkpoint, weight_type, quantization, dataset: &dataset, prompts, micro_batch_tokens };
        backend::dispatch(backend, scoring)
    };
    let reference = reference.map(|checkpoint| score(checkpoint, None, false)).transpose()?;
    let mut scored = score(checkpoint, quantization, prompts)?;
    for (scored, reference) in scored.iter_mut().zip(reference.into_iter().flatten()) {
        scored.scores = scored.scores.with_reference(reference.scores.into());
    }
    let mut lines = String::new();
    for (pair, scored) in dataset.pairs.iter().zip(&scored) {
        let mut line = serde_json::to_value(scored).map_err(|error| Failure::Run(error.into()))?;
        if let Some(objective) = &objective {
            let report = objective
                .report_pair(&scored.scores)
                .map_err(|error| Failure::Run(anyhow::anyhow!("{}: {error}", pair.origin)))?;
            let loss = &report.pair;
            line["loss"] = json!(loss.loss);
            line["grad_chosen"] = json!(loss.grad.chosen);
            line["grad_rejected"] = json!(loss.grad.rejected);
            if let Some(prompt) = loss.grad.prompt {
                line["grad_prompt"] = json!(prompt);
            }
        }
        lines += &format!("{line}\n");
    }
    output::write_file(&arguments.output, lines.as_bytes())
}

/// The objective of a name with its defaults.
pub fn by_name(name: &str) -> Result<Objective, Failure> {
    Objective::by_name(name).ok_or_else(|| {
        Failure::input(format!("objective {name:?} is unknown\nhint: one of {}", Objective::NAMES.join(", ")))
    })
}

struct Scoring<'a> {
    checkpoint: SavedModel,
    weight_type: WeightType,
    quantization: Option<Quantization>,
    dataset: &'a Dataset,
    prompts: bool,
    micro_batch_tokens: usize,
}

impl Work for Scoring<'_> {
    type Output = Vec<ScoredPair>;

    fn run<A: TrainBackend>(mut self, device: &A::Device) -> Result<Vec<ScoredPair>, Failure> {
        let config = self.checkpoint.config().clone();
        if !A::trains_in(self.weight_type, device) {
            return Err(Failure::input(format!(
                "--dtype {}: this backend does not compute in it\nhint: --backend tch does, or leave --dtype out",
                self.weight_type.name()
            )));
        }
        let model = self.checkpoint.load::<<A as AutodiffBackend>::InnerBackend>(
            self.weight_type,
            self.quantization,
            device,
        )?;
        let pairs: Vec<&EncodedPair> = self.dataset.pairs.iter().collect();
        let total = pairs.len();
        let scored =
            score_pairs(&model, &config, &pairs, self.prompts, self.micro_batch_tokens, device, |done| {
                note!("scored {done}/{total} pairs");
                true
            });
        let scored = scored.unwrap_or_default();
        match scored.iter().zip(&self.dataset.pairs).find(|(scored, _)| !finite(&scored.scores)) {
            Some((_, pair)) => {
                Err(Failure::Run(anyhow::anyhow!("{}: a log-prob is not finite", pair.origin)))
            }
            None => Ok(scored),
        }
    }
}

fn finite(scores: &PairScores) -> bool {
    scores.chosen.logp_sum.is_finite()
        && scores.rejected.as_ref().is_none_or(|rejected| rejected.logp_sum.is_finite())
}
