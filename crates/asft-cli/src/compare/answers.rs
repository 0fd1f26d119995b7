//! What a trained model answers to held-out prompts, greedily, and how near that is to the chosen answers.

use std::{ops::ControlFlow, path::Path};

use asft_data::EncodedPair;
use asft_eval::text;
use asft_model::generate::{Event, Finish, Request, Sampling};
use asft_train::{Job, RunConfig};
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::{backend::Backend, failure::Failure, generate::ModelOptions};

/// Answers to the first test prompts against the chosen ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// How many.
    pub pairs: usize,
    /// Tokens after which they were cut.
    pub max_new_tokens: usize,
    /// BLEU and ROUGE.
    pub text: text::Summary,
    /// Mean length in tokens.
    pub tokens: f64,
    /// Mean length of the chosen answers.
    pub label_tokens: f64,
    /// Share that the model ended by itself.
    pub ended: f64,
}

/// Has the newest checkpoint of a run answer; nothing where the plan asks for none.
pub fn answer(
    plan: &Plan,
    job: &Job,
    config: &RunConfig,
    run: &Path,
    backend: Backend,
) -> Result<Option<Answers>, Failure> {
    let settings = &plan.settings;
    let held_out = job.eval.as_ref().map_or(&[][..], |eval| &eval.pairs);
    let validation = plan.validation(held_out.len());
    let test = held_out.iter().zip(validation).filter(|(_, validation)| !validation).map(|(pair, _)| pair);
    let pairs: Vec<&EncodedPair> = test.take(settings.generate_pairs).collect();
    if pairs.is_empty() {
        return Ok(None);
    }
    let request = |pair: &&EncodedPair| Request {
        prompt: pair.prompt.clone(),
        max_new_tokens: settings.generate_tokens,
        sampling: Sampling::GREEDY,
    };
    let requests: Vec<Request> = pairs.iter().map(request).collect();
    // Prompts are token ids already.
    let options = ModelOptions {
        template: "none".to_owned(),
        template_date: String::new(),
        batch: 8,
        dtype: config.model.dtype.name().to_owned(),
        backend,
    };
    let opened = options.open(run, run.to_owned())?;
    let mut generated = vec![None; pairs.len()];
    opened.with_weights(|model| {
        let _ = model.generate(&requests, &mut |event| {
            if let Event::Done(place, done) = event {
                generated[place] = Some(done);
            }
            ControlFlow::Continue(())
        });
        let generated: Vec<_> = generated.into_iter().flatten().collect();
        let text = |ids: &[u32]| model.decode(ids);
        let mut texts = vec![];
        for (pair, done) in pairs.iter().zip(&generated) {
            texts.push(text::Pair { predict: text(&done.tokens)?, label: text(&pair.chosen)? });
        }
        let count = generated.len() as f64;
        Ok(Some(Answers {
            pairs: generated.len(),
            max_new_tokens: settings.generate_tokens,
            text: text::evaluate(&texts, text::Options { stem: true }).0,
            tokens: generated.iter().map(|done| done.tokens.len()).sum::<usize>() as f64 / count,
            label_tokens: pairs.iter().map(|pair| pair.chosen.len()).sum::<usize>() as f64 / count,
            ended: generated.iter().filter(|done| done.finish == Finish::EndOfTurn).count() as f64 / count,
        }))
    })
}
