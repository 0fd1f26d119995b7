//! `asft eval alpaca`: the paper's Table 3, as LLaMA-Factory's prediction does it.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use asft_data::{
    PreferenceRow,
    read::Source,
    schema::{Converted, Format, Schema, SchemaRows},
};
use asft_eval::{derived_seed, files, statistics::Estimate, text};
use asft_model::generate::{Event, Finish, Request, Sampling};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    print_json,
    table::{number, table},
};
use crate::{
    failure::Failure,
    generate::{LocalModel, ModelOptions, Opened, Prompt, Rows},
    number::whole,
    output::{self, note},
    train::interruptible,
};

#[derive(Args)]
pub struct Arguments {
    /// Models to compare: Hugging Face directories, GGUF files or run directories.
    #[arg(long, value_name = "M", num_args = 1.., required = true)]
    model: Vec<PathBuf>,
    #[command(flatten)]
    options: ModelOptions,
    /// Rows with instruction, input and output.
    #[arg(long, value_name = "F")]
    data: String,
    /// Predicts only the first rows.
    #[arg(long, value_name = "N", value_parser = whole(1usize))]
    limit: Option<usize>,
    /// Directory of the predictions, a folder each model; those that are there are gone on with.
    #[arg(long, value_name = "DIR")]
    output_dir: PathBuf,
    /// Most tokens of prompt and label together; longer ones are cut as LLaMA-Factory does.
    #[arg(long, default_value_t = 1024, value_parser = whole(1usize))]
    cutoff: usize,
    /// Tokens after which a prediction is cut.
    #[arg(long, default_value_t = 1024, value_parser = whole(1usize))]
    max_new_tokens: usize,
    /// Temperature of the sampled predictions.
    #[arg(long, default_value_t = 0.95)]
    temperature: f64,
    /// Only so many of the likeliest tokens; 0: all.
    #[arg(long, default_value_t = 50, value_parser = whole(0usize))]
    top_k: usize,
    /// Only the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 0.7)]
    top_p: f64,
    /// Seeds of the sampled predictions; greedy ones are made besides.
    #[arg(long, value_name = "SEED", num_args = 0.., value_delimiter = ',', default_values_t = [0, 1, 2], value_parser = whole(0u64))]
    seeds: Vec<u64>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// A row as the model gets it.
struct Question {
    asked: Prompt,
    prompt: Vec<u32>,
    label: String,
    label_tokens: usize,
}

/// A row of a file of predictions; LLaMA-Factory's have the first three, with the prompt as its template renders it.
#[derive(Serialize, Deserialize)]
struct Prediction {
    prompt: Prompt,
    predict: String,
    label: String,
    tokens: usize,
    label_tokens: usize,
    /// Whether the model ended it by itself.
    ended: bool,
}

/// What was measured of a model under one way of drawing.
#[derive(Serialize)]
struct Measured {
    drawing: String,
    #[serde(flatten)]
    text: text::Summary,
    /// Mean length of predictions in the model's tokens.
    tokens: f64,
    /// Mean length of labels.
    label_tokens: f64,
    /// Share of predictions that the model ended by itself.
    ended: f64,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    for (option, value, most) in
        [("--temperature", arguments.temperature, 100.0), ("--top-p", arguments.top_p, 1.0)]
    {
        if !(0.0..=most).contains(&value) {
            return Err(Failure::input(format!("{option} must be from 0 to {most}, got {value}")));
        }
    }
    if let Some(seed) =
        arguments.seeds.iter().enumerate().find(|(i, seed)| arguments.seeds[..*i].contains(seed))
    {
        return Err(Failure::input(format!("--seeds: {} is given twice", seed.1)));
    }
    let mut rows = read(&arguments.data)?;
    let in_data = rows.len();
    rows.truncate(arguments.limit.unwrap_or(usize::MAX));
    if rows.len() < in_data {
        note!("the first {} of {in_data} rows", rows.len());
    }
    files::check_folder(&arguments.output_dir)?;
    let ids: Vec<String> = arguments.model.iter().map(|path| model_id(path)).collect();
    if let Some((_, id)) = ids.iter().enumerate().find(|(i, id)| ids[..*i].contains(id)) {
        return Err(Failure::input(format!(
            "--model: two models are called {id}, and their predictions go to folders of that name\nhint: run them with an --output-dir each"
        )));
    }
    let interrupted = interruptible("stopping; what is predicted is kept")?;
    let mut models = vec![];
    for (id, path) in ids.iter().zip(&arguments.model) {
        let opened = arguments.options.open(path, arguments.data.clone().into())?;
        let questions: Vec<Question> =
            rows.iter().map(|row| question(&opened, row, arguments.cutoff)).collect::<Result<_, _>>()?;
        let directory = arguments.output_dir.join(id);
        files::make_folder(&directory)?;
        let measured = opened.with_weights(|model| {
            let mut measured = vec![];
            for seed in std::iter::once(None).chain(arguments.seeds.iter().copied().map(Some)) {
                let drawing = seed.map_or("greedy".to_owned(), |seed| format!("seed-{seed}"));
                note!("{id}, {drawing}");
                let file = directory.join(format!("predictions-{drawing}.jsonl"));
                let predictions = predict(arguments, model, &questions, in_data, seed, &file, &interrupted)?;
                measured.push(measure(drawing, &predictions));
            }
            Ok(measured)
        })?;
        models.push((id.clone(), measured));
    }
    let summary = json!({
        "data": arguments.data,
        "rows": rows.len(),
        "rows_in_data": in_data,
        "sampling": {
            "temperature": arguments.temperature, "top_k": arguments.top_k, "top_p": arguments.top_p,
            "max_new_tokens": arguments.max_new_tokens, "cutoff": arguments.cutoff, "seeds": arguments.seeds,
        },
        "alpaca": models.iter().map(|(model, drawings)| json!({"model": model, "drawings": drawings})).collect::<Vec<_>>(),
    });
    let file = arguments.output_dir.join("summary.json");
    output::write_file(&file, format!("{summary:#}\n").as_bytes())?;
    match arguments.json {
        true => print_json(&summary),
        false => {
            let head = head(arguments, rows.len(), in_data);
            output::print(&format!("{head}{}\n{}\n", as_text(&models), file.display()))
        }
    }
}

/// What the tables are of.
fn head(arguments: &Arguments, rows: usize, in_data: usize) -> String {
    let Arguments { data, temperature, top_k, top_p, max_new_tokens, cutoff, seeds, .. } = arguments;
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let sampled = match seeds.is_empty() {
        true => String::new(),
        false => {
            format!("; temperature {temperature}, top-k {top_k}, top-p {top_p}, seeds {}", seeds.join(", "))
        }
    };
    format!("{rows} of {in_data} rows of {data}; max-new-tokens {max_new_tokens}, cutoff {cutoff}{sampled}\n")
}

fn model_id(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn read(data: &str) -> Result<Vec<PreferenceRow>, Failure> {
    let (mut rows, mut dropped) = (vec![], 0);
    for source in Source::expand(&[data.to_owned()])? {
        for row in SchemaRows::open(&source, Format::Named(Schema::Alpaca))? {
            match row? {
                (_, Converted::Row(row)) => rows.push(row),
                (_, Converted::Dropped { .. }) => dropped += 1,
            }
        }
    }
    if dropped > 0 {
        note!("{data}: {dropped} rows without an instruction or an output are left out");
    }
    match rows.is_empty() {
        true => Err(Failure::input(format!("{data}: holds no row with an instruction and an output"))),
        false => Ok(rows),
    }
}

/// Prompt and label cut to fit `cutoff` together.
fn question(opened: &Opened, row: &PreferenceRow, cutoff: usize) -> Result<Question, Failure> {
    let pair = opened
        .tokenizer
        .encode_pair(row, &opened.template)
        .map_err(|error| Failure::input(error.to_string()))?;
    let [source, target] = cut([pair.prompt.len(), pair.chosen.len()], cutoff);
    let prompt = pair.prompt[..source].to_vec();
    if prompt.is_empty() || target == 0 {
        return Err(Failure::input(format!(
            "{}: --cutoff {cutoff} leaves nothing of the {}\nhint: raise it",
            row.origin,
            if prompt.is_empty() { "prompt" } else { "output that the answer is held against" }
        )));
    }
    let label =
        opened.tokenizer.decode(&pair.chosen[..target], true).map_err(|error| Failure::Run(error.into()))?;
    let asked = match row.prompt.as_slice() {
        [turn] if turn.role == "user" => Prompt::Text(turn.content.clone()),
        turns => Prompt::Turns(turns.to_vec()),
    };
    Ok(Question { asked, prompt, label, label_tokens: target })
}

/// Tokens of prompt and label that LLaMA-Factory keeps of `limit` together.
fn cut([source, target]: [usize; 2], limit: usize) -> [usize; 2] {
    let most = if 2 * target < limit {
        limit
    } else if 2 * source < limit {
        limit - source
    } else {
        limit * target / (source + target)
    };
    let kept = most.min(target);
    [source.min(limit.saturating_sub(kept)), kept]
}

/// The predictions for all questions, those of an earlier sitting taken from `file`, which may have some for further ones
/// of the `in_data`.
fn predict(
    arguments: &Arguments,
    model: &LocalModel<'_>,
    questions: &[Question],
    in_data: usize,
    seed: Option<u64>,
    file: &Path,
    interrupted: &AtomicBool,
) -> Result<Vec<Prediction>, Failure> {
    let Arguments { temperature, top_k, top_p, max_new_tokens, cutoff, .. } = *arguments;
    let drawn = match seed {
        None => "greedy".to_owned(),
        Some(seed) => format!("temperature {temperature} top_k {top_k} top_p {top_p} seed {seed}"),
    };
    let settings =
        format!("{} {drawn} max_new_tokens {max_new_tokens} cutoff {cutoff}", model.opened.settings()?);
    let fit = |place: usize, row: &Prediction| match questions.get(place) {
        Some(question) => question.asked == row.prompt && question.label == row.label,
        None => place < in_data,
    };
    let mut done = Rows::open(file, &settings, fit)?;
    let places: Vec<usize> = (0..questions.len()).filter(|place| !done.has(*place)).collect();
    let request = |place: &usize| {
        let sampling = match seed {
            None => Sampling::GREEDY,
            Some(seed) => {
                Sampling { temperature, top_k, top_p, seed: derived_seed(seed, &[&place.to_string()]) }
            }
        };
        Request { prompt: questions[*place].prompt.clone(), max_new_tokens, sampling }
    };
    let requests: Vec<Request> = places.iter().map(request).collect();
    let mut open = requests.len();
    let mut result = Ok(());
    let flow = model.generate(&requests, &mut |event| {
        if interrupted.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        let Event::Done(request, generated) = event else { return ControlFlow::Continue(()) };
        let question = &questions[places[request]];
        let written = model.decode(&generated.tokens).and_then(|predict| {
            let prediction = Prediction {
                prompt: question.asked.clone(),
                predict,
                label: question.label.clone(),
                tokens: generated.tokens.len(),
                label_tokens: question.label_tokens,
                ended: generated.finish == Finish::EndOfTurn,
            };
            done.add(places[request], prediction)?;
            open -= 1;
            if open.is_multiple_of(20) {
                note!("predicted {}/{}", questions.len() - open, questions.len());
            }
            Ok(())
        });
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                result = Err(error);
                ControlFlow::Break(())
            }
        }
    });
    result?;
    if flow.is_break() {
        return Err(Failure::Interrupted(
            "interrupted; what is predicted is kept\nhint: the same command goes on from there".to_owned(),
        ));
    }
    let mut predictions = done.finish()?;
    predictions.truncate(questions.len());
    Ok(predictions)
}

fn measure(drawing: String, predictions: &[Prediction]) -> Measured {
    let pairs: Vec<text::Pair> = predictions
        .iter()
        .map(|row| text::Pair { predict: row.predict.clone(), label: row.label.clone() })
        .collect();
    let mean =
        |of: fn(&Prediction) -> f64| predictions.iter().map(of).sum::<f64>() / predictions.len() as f64;
    Measured {
        drawing,
        text: text::evaluate(&pairs, text::Options { stem: true }).0,
        tokens: mean(|row| row.tokens as f64),
        label_tokens: mean(|row| row.label_tokens as f64),
        ended: mean(|row| f64::from(row.ended)),
    }
}

type Read = fn(&Measured) -> f64;

/// What a table shows, with its convention.
const SHOWN: [(&str, Read); 11] = [
    ("LLaMA-Factory BLEU-4", |of| of.text.llamafactory.bleu_4),
    ("LLaMA-Factory ROUGE-1", |of| of.text.llamafactory.rouge_1),
    ("LLaMA-Factory ROUGE-2", |of| of.text.llamafactory.rouge_2),
    ("LLaMA-Factory ROUGE-L", |of| of.text.llamafactory.rouge_l),
    ("sacreBLEU", |of| of.text.sacrebleu.score),
    ("rouge-score ROUGE-1", |of| of.text.rouge_score.fmeasure.rouge1),
    ("rouge-score ROUGE-2", |of| of.text.rouge_score.fmeasure.rouge2),
    ("rouge-score ROUGE-L", |of| of.text.rouge_score.fmeasure.rouge_l),
    ("tokens of a prediction", |of| of.tokens),
    ("of its label", |of| of.label_tokens),
    ("ended by themselves, %", |of| 100.0 * of.ended),
];

fn as_text(models: &[(String, Vec<Measured>)]) -> String {
    let mut text = String::new();
    for (model, measured) in models {
        let (greedy, sampled): (Vec<_>, Vec<_>) = measured.iter().partition(|of| of.drawing == "greedy");
        let rows: Vec<[String; 4]> = SHOWN
            .iter()
            .map(|(name, read)| {
                let values: Vec<f64> = sampled.iter().map(|of| read(of)).collect();
                let estimate = Estimate::of(&values);
                let deviation = estimate.and_then(|of| Some(of.se? * (of.n as f64).sqrt()));
                [
                    (*name).to_owned(),
                    number(greedy.first().map(|of| read(of)), 2),
                    number(estimate.map(|of| of.mean), 2),
                    number(deviation, 2),
                ]
            })
            .collect();
        let title = format!("{} seeds, mean", sampled.len());
        text += &format!("\n{}", table([model, "greedy", &title, "deviation"], &rows));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn prompts_and_labels_are_cut_as_llama_factory_does() {
        // Both fit.
        assert_eq!(cut([100, 200], 1024), [100, 200]);
        // A short label stays whole and the prompt gives way.
        assert_eq!(cut([2000, 100], 1024), [924, 100]);
        // A short prompt stays whole and the label gives way.
        assert_eq!(cut([100, 2000], 1024), [100, 924]);
        // Both long: in proportion.
        assert_eq!(cut([1000, 3000], 1000), [250, 750]);
        assert_eq!(cut([600, 600], 1000), [500, 500]);
    }
}
