//! A model on disk that answers: what `generate` and `eval` share.

use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use asft_data::{
    Message, Origin, Tokenizer,
    template::{RenderOptions, ResolvedTemplate, TemplateChoice, parse_date},
};
use asft_eval::{Answer, AnswerSource, Query, StopReason};
use asft_model::{
    LlamaBackend, LlamaConfig, TrainBackend, WeightType,
    checkpoint::SavedModel,
    generate::{Event, Finish, Generated, Generator, Request, Sampling},
};
use asft_train::{checkpoint::digest_of_files, open_checkpoint};
use burn::tensor::backend::AutodiffBackend;
use clap::Args;

use crate::{
    backend::{self, Backend, Work},
    failure::Failure,
    score::parse,
};

/// Which model answers, and how it is run.
#[derive(Args)]
pub struct ModelArguments {
    /// A Hugging Face directory, a GGUF file, a directory of an adapter or a run directory.
    #[arg(long, value_name = "M")]
    pub model: PathBuf,
    #[command(flatten)]
    pub options: ModelOptions,
}

/// How a model that answers is run.
#[derive(Args)]
pub struct ModelOptions {
    /// The chat template: model, none or a file.
    #[arg(long, default_value = "model")]
    pub template: String,
    /// The day that templates print, YYYY-MM-DD; today where it is not given.
    #[arg(long, value_name = "DATE", default_value = "")]
    pub template_date: String,
    /// Answers in progress at a time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: u16,
    /// Type of the weights: f32 or bf16.
    #[arg(long, default_value = "f32")]
    pub dtype: String,
    /// Where to compute.
    #[arg(long, value_enum, default_value = "auto")]
    pub backend: Backend,
}

/// A model that was opened, its weights not read yet.
pub struct Opened {
    checkpoint: SavedModel,
    weight_type: WeightType,
    backend: Backend,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// How conversations become text.
    pub template: ResolvedTemplate,
    batch: usize,
    stop: BTreeSet<u32>,
    template_name: String,
    /// Where conversations come from, as errors name it.
    pub origin: PathBuf,
}

impl ModelArguments {
    /// Opens and checks everything but the weights.
    pub fn open(&self, origin: PathBuf) -> Result<Opened, Failure> {
        self.options.open(&self.model, origin)
    }
}

impl ModelOptions {
    /// Opens and checks everything of a model but the weights; `origin` is where its questions come from.
    pub fn open(&self, model: &Path, origin: PathBuf) -> Result<Opened, Failure> {
        let weight_type = parse("--dtype", &self.dtype)?;
        let (checkpoint, tokenizer) = open_checkpoint(model)?;
        let date = match self.template_date.as_str() {
            "" => None,
            text => {
                Some(parse_date(text).map_err(|error| Failure::input(format!("--template-date: {error}")))?)
            }
        };
        let options = RenderOptions { date, ..Default::default() };
        let choice = TemplateChoice::from(self.template.clone());
        let template =
            choice.resolve(&tokenizer, options).map_err(|error| Failure::input(error.to_string()))?;
        let (batch, backend) = (usize::from(self.batch), self.backend.usable()?);
        let stop = tokenizer.end_of_turn_ids().clone();
        let template_name = format!("{} {}", self.template, self.template_date).trim_end().to_owned();
        Ok(Opened {
            checkpoint,
            weight_type,
            backend,
            tokenizer,
            template,
            batch,
            stop,
            template_name,
            origin,
        })
    }
}

impl Opened {
    /// Token ids of a conversation, with room for an answer; `place` is its 0-based row.
    pub fn encode(&self, place: usize, conversation: &[Message]) -> Result<Vec<u32>, Failure> {
        let origin = Origin { file: Arc::from(self.origin.as_path()), row: place + 1 };
        let ids = self
            .tokenizer
            .encode_prompt(&origin, conversation, &self.template)
            .map_err(|error| Failure::input(error.to_string()))?;
        let positions = self.checkpoint.config().max_position_embeddings;
        match ids.len() < positions {
            true => Ok(ids),
            false => Err(Failure::input(format!(
                "{origin}: the prompt has {} tokens, the model was made for {positions}\nhint: shorten it",
                ids.len()
            ))),
        }
    }

    /// What answers depend on besides the question and its sampling: the weights, by digest, and the template.
    pub fn settings(&self) -> Result<String, Failure> {
        let digest = digest_of_files(&self.checkpoint.files())?;
        Ok(format!("model {} {} template {:?}", &digest[..16], self.weight_type.name(), self.template_name))
    }

    /// The same model, which ends no answer by itself.
    pub fn without_stops(self) -> Self {
        Self { stop: BTreeSet::new(), ..self }
    }

    /// Reads the weights and lets `work` generate with them.
    pub fn with_weights<T>(
        mut self,
        work: impl FnOnce(&LocalModel<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let backend = self.backend;
        backend::dispatch(backend, Loading { opened: &mut self, work })
    }
}

struct Loading<'a, F> {
    opened: &'a mut Opened,
    work: F,
}

impl<T, F: FnOnce(&LocalModel<'_>) -> Result<T, Failure>> Work for Loading<'_, F> {
    type Output = T;

    fn run<A: TrainBackend>(self, device: &A::Device) -> Result<T, Failure> {
        let Self { opened, work } = self;
        if !A::trains_in(opened.weight_type, device) {
            return Err(Failure::input(format!(
                "--dtype {}: this backend does not compute in it\nhint: --backend tch does, or leave --dtype out",
                opened.weight_type.name()
            )));
        }
        let config = opened.checkpoint.config().clone();
        // Merged, a token takes no more products than without an adapter.
        let model = opened
            .checkpoint
            .load::<<A as AutodiffBackend>::InnerBackend>(opened.weight_type, None, device)?
            .merged();
        let generator = Generator::new(&model, &config, &opened.stop);
        work(&LocalModel { generator: &generator, opened, config: &config })
    }
}

/// A generator whatever its backend.
trait Generate {
    fn run(
        &self,
        requests: &mut dyn Iterator<Item = (usize, Request)>,
        batch: usize,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> ControlFlow<()>;
}

impl<B: LlamaBackend> Generate for Generator<'_, B> {
    fn run(
        &self,
        requests: &mut dyn Iterator<Item = (usize, Request)>,
        batch: usize,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.run(requests, batch, observe)
    }
}

/// A model whose weights are there.
pub struct LocalModel<'a> {
    generator: &'a dyn Generate,
    /// What it was opened from.
    pub opened: &'a Opened,
    /// Its shape.
    pub config: &'a LlamaConfig,
}

impl LocalModel<'_> {
    /// Answers requests, which events name by their places, see [`Generator::run`].
    pub fn generate(
        &self,
        requests: &[Request],
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.generator.run(&mut requests.iter().cloned().enumerate(), self.opened.batch, observe)
    }

    /// Whether a conversation leaves room for an answer.
    pub fn has_room(&self, conversation: &[asft_eval::judge::Message]) -> bool {
        let turns: Vec<Message> =
            conversation.iter().map(|turn| Message::new(&turn.role, &turn.content)).collect();
        self.opened.encode(0, &turns).is_ok()
    }

    /// Text of generated ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Failure> {
        self.opened.tokenizer.decode(ids, true).map_err(|error| Failure::Run(error.into()))
    }
}

impl AnswerSource for &LocalModel<'_> {
    type Error = Failure;

    fn answers(
        &mut self,
        queries: &[Query],
        done: &mut dyn FnMut(usize, Answer) -> ControlFlow<(), Option<Query>>,
    ) -> Result<ControlFlow<()>, Failure> {
        let own = self.opened.tokenizer.sampling_defaults();
        let request = |place: usize, query: &Query| {
            let turn = |turn: &asft_eval::judge::Message| Message::new(&turn.role, &turn.content);
            let conversation: Vec<Message> = query.conversation.iter().map(turn).collect();
            let asft_eval::Sampling { temperature, top_k, top_p, max_new_tokens, seed } = query.sampling;
            let sampling = Sampling {
                temperature,
                top_k: top_k.or(own.top_k).unwrap_or(50),
                top_p: top_p.or(own.top_p).unwrap_or(1.0),
                seed,
            };
            let prompt = self.opened.encode(place, &conversation)?;
            Ok::<_, Failure>((place, Request { prompt, max_new_tokens, sampling }))
        };
        let first = queries.iter().enumerate().map(|(place, query)| request(place, query));
        let waiting = RefCell::new(first.collect::<Result<VecDeque<_>, _>>()?);
        let mut answered = |place: usize, generated: Generated| {
            let stop = match generated.finish {
                Finish::EndOfTurn => StopReason::EndOfTurn,
                Finish::Length => StopReason::Length,
            };
            let text = self.decode(&generated.tokens)?;
            Ok(match done(place, Answer { text, tokens: generated.tokens.len(), stop }) {
                ControlFlow::Break(()) => ControlFlow::Break(()),
                ControlFlow::Continue(next) => {
                    // Before those that wait, so that a conversation ends soon.
                    if let Some(query) = next {
                        waiting.borrow_mut().push_front(request(place, &query)?);
                    }
                    ControlFlow::Continue(())
                }
            })
        };
        let mut failed = None;
        let mut requests = std::iter::from_fn(|| waiting.borrow_mut().pop_front());
        let flow = self.generator.run(&mut requests, self.opened.batch, &mut |event| match event {
            Event::Token(..) => ControlFlow::Continue(()),
            Event::Done(place, generated) => answered(place, generated).unwrap_or_else(|error| {
                failed = Some(error);
                ControlFlow::Break(())
            }),
        });
        failed.map_or(Ok(flow), Err)
    }
}
