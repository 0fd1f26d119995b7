//! `asft eval report`: summaries of the other commands on one self-contained page.

use std::path::{Path, PathBuf};

use asft_eval::{
    arena_hard, files, jsonl, mt_bench,
    page::{Block, Page},
};
use clap::Args;
use serde_json::{Map, Value};

use super::{calibration, categories};
use crate::{
    failure::Failure,
    figure::{self, Panel},
    number::whole,
    output,
};

#[derive(Args)]
pub struct Arguments {
    /// Summaries: what text, mt-bench show, arena-hard show, alpaca and judge calibrate print with --json.
    #[arg(long, value_name = "S.json", num_args = 1.., required = true)]
    summary: Vec<PathBuf>,
    /// Answers to show as examples, of MT-Bench or Arena-Hard.
    #[arg(long, value_name = "A.jsonl", num_args = 1.., requires = "questions")]
    answers: Vec<PathBuf>,
    /// Their questions.
    #[arg(long, value_name = "Q.jsonl")]
    questions: Option<PathBuf>,
    /// Their judgments.
    #[arg(long, value_name = "J.jsonl", num_args = 1.., requires = "answers")]
    judgments: Vec<PathBuf>,
    /// How many examples, spread over the questions.
    #[arg(long, default_value_t = 4, value_parser = whole(0usize))]
    examples: usize,
    /// Where `asft eval judge calibrate` left what is known of judges.
    #[arg(long, value_name = "DIR", default_value = "cache/judge")]
    cache: PathBuf,
    /// Where the page goes.
    #[arg(long, value_name = "OUT.html")]
    output: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let inputs = arguments.summary.iter().chain(&arguments.answers).chain(&arguments.questions);
    let inputs: Vec<PathBuf> = inputs.chain(&arguments.judgments).cloned().collect();
    output::check_writable(&arguments.output, &inputs)?;
    let mut blocks = vec![];
    for (number, path) in arguments.summary.iter().enumerate() {
        let summary: Value = serde_json::from_str(&files::read_text(path)?)
            .map_err(|error| Failure::input(format!("{}: is no JSON: {error}", path.display())))?;
        blocks.extend(section(&arguments.cache, path, number, &summary)?);
    }
    if let Some(questions) = &arguments.questions {
        blocks.extend(examples(arguments, questions)?);
    }
    blocks.push(Block::Heading("How to read this".to_owned()));
    blocks.push(Block::List(READING.map(str::to_owned).to_vec()));
    let page = Page { title: "Evaluation".to_owned(), blocks };
    output::write_file(&arguments.output, page.html().as_bytes())?;
    output::print(&format!("{}\n", arguments.output.display()))
}

const READING: [&str; 4] = [
    "A benchmark's score belongs to its judge, prompts, baseline and reference answers. Scores of a substitute judge are not to be set beside published ones.",
    "Intervals are by question: the answers to another set of questions of the same kind could have given any score in them. With fewer than 30 questions they are themselves uncertain.",
    "Judging the same answers again has been reported to move a model by up to 0.2 on MT-Bench.",
    "BLEU and ROUGE of different programs differ by factors; each value stands under its program's name.",
];

fn section(cache: &Path, path: &Path, number: usize, summary: &Value) -> Result<Vec<Block>, Failure> {
    let has = |key: &str| summary.get(key).is_some();
    let is_list = |models: &Value| models.as_array().is_some_and(|rows| rows.iter().all(Value::is_object));
    if summary.get("models").is_some_and(|models| !is_list(models)) {
        return Err(Failure::input(format!(
            "{}: models: must be a list with an object for each model\nhint: name a summary as --json printed it",
            path.display()
        )));
    }
    // Each of a list's objects must have these, or the page would be full of holes.
    let need = |list: &str, keys: &[&str]| {
        let rows = summary[list].as_array().into_iter().flatten().enumerate();
        let mut lacks = rows.flat_map(|(place, row)| {
            keys.iter().filter(move |key| row.get(**key).is_none()).map(move |key| (place, *key))
        });
        lacks.next().map_or(Ok(()), |(place, key)| {
            Err(Failure::input(format!(
                "{}: {list}[{place}].{key}: is missing\nhint: name a summary as --json printed it",
                path.display()
            )))
        })
    };
    if has("llamafactory") {
        Ok(text_metrics(path, summary))
    } else if has("alpaca") {
        need("alpaca", &["model", "drawings"])?;
        Ok(alpaca(summary))
    } else if has("models") && has("baseline") {
        need("models", &["model", "score", "games_dropped"])?;
        with_statement(cache, "arena-hard", summary, arena(number, summary))
    } else if has("models") && has("judge") {
        need("models", &["model", "average", "n", "expected"])?;
        with_statement(cache, "mt-bench", summary, bench(number, summary))
    } else if has("games_compared") || has("keys_recorded") {
        Ok(vec![Block::Heading("Calibration of a substitute judge".to_owned()), flat("value", summary)])
    } else {
        Err(Failure::input(format!(
            "{}: is no summary that is known here\nhint: name what eval text, mt-bench show, arena-hard show, alpaca or judge calibrate print with --json",
            path.display()
        )))
    }
}

/// A benchmark's section with what is to be said of its judge under the heading.
fn with_statement(
    cache: &Path,
    benchmark: &str,
    summary: &Value,
    mut blocks: Vec<Block>,
) -> Result<Vec<Block>, Failure> {
    if let Some(judge) = summary["judge"].as_str()
        && let Some(statement) = calibration::statement(cache, benchmark, judge)?
    {
        blocks.insert(1, Block::Text(statement));
    }
    Ok(blocks)
}

/// A value of a summary, for a table.
pub fn shown(value: &Value, decimals: usize) -> String {
    match value {
        Value::Number(number) if number.is_f64() => {
            format!("{:.decimals$}", number.as_f64().unwrap_or(f64::NAN))
        }
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            values.iter().map(|value| shown(value, decimals)).collect::<Vec<_>>().join(" – ")
        }
        other => other.to_string(),
    }
}

fn cells(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// All numbers of an object, by their path.
fn flat(name: &str, summary: &Value) -> Block {
    fn collect(prefix: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    collect(&path, value, rows);
                }
            }
            value => rows.push(vec![prefix.to_owned(), shown(value, 4)]),
        }
    }
    let mut rows = vec![];
    collect("", summary, &mut rows);
    Block::Table { header: cells(&["", name]), rows }
}

fn text_metrics(path: &Path, summary: &Value) -> Vec<Block> {
    vec![Block::Heading(format!("Text metrics: {}", path.display())), flat("value", summary)]
}

fn alpaca(summary: &Value) -> Vec<Block> {
    let mut rows = vec![];
    for model in summary["alpaca"].as_array().into_iter().flatten() {
        for drawing in model["drawings"].as_array().into_iter().flatten() {
            rows.push(vec![
                shown(&model["model"], 0),
                shown(&drawing["drawing"], 0),
                shown(&drawing["llamafactory"]["bleu-4"], 2),
                shown(&drawing["llamafactory"]["rouge-1"], 2),
                shown(&drawing["llamafactory"]["rouge-2"], 2),
                shown(&drawing["llamafactory"]["rouge-l"], 2),
                shown(&drawing["sacrebleu"]["score"], 2),
                shown(&drawing["rouge_score"]["rougeL"], 2),
                shown(&drawing["tokens"], 1),
                drawing["ended"].as_f64().map_or("–".to_owned(), |share| format!("{:.0}%", 100.0 * share)),
            ]);
        }
    }
    let header = [
        "model",
        "drawing",
        "LLaMA-Factory BLEU-4",
        "ROUGE-1",
        "ROUGE-2",
        "ROUGE-L",
        "sacreBLEU",
        "rouge-score ROUGE-L",
        "tokens",
        "ended by themselves",
    ];
    vec![
        Block::Heading(format!(
            "Alpaca rows: {} of {}",
            shown(&summary["rows"], 0),
            shown(&summary["data"], 0)
        )),
        Block::Text(format!("Sampling: {}", summary["sampling"])),
        Block::Table { header: cells(&header), rows },
    ]
}

fn statuses(model: &Value) -> String {
    let all = model["statuses"].as_object().into_iter().flatten();
    all.map(|(status, count)| format!("{status} {count}")).collect::<Vec<_>>().join(", ")
}

/// Height of a picture with a line each.
fn height(models: &[Value]) -> f64 {
    140.0 + 44.0 * models.len() as f64
}

/// A panel of scores with intervals, where all have one.
fn scores(
    title: &str,
    x: &str,
    neutral: f64,
    models: &[Value],
    score: &str,
    interval: &str,
) -> Option<Panel> {
    let row = |model: &Value| {
        let bounds = model[interval].as_array()?;
        let [low, high] = [bounds.first()?.as_f64()?, bounds.get(1)?.as_f64()?];
        Some((shown(&model["model"], 0), model[score].as_f64()?, [low, high]))
    };
    let rows: Vec<_> = models.iter().filter_map(row).collect();
    (!rows.is_empty()).then(|| Panel::intervals(title, x, neutral, &rows))
}

fn bench(number: usize, summary: &Value) -> Vec<Block> {
    let models = summary["models"].as_array().cloned().unwrap_or_default();
    let mut blocks = vec![Block::Heading(format!("MT-Bench, judged by {}", shown(&summary["judge"], 0)))];
    for said in [&summary["label"], &summary["settings"]].into_iter().filter_map(Value::as_str) {
        blocks.push(Block::Text(said.to_owned()));
    }
    let rows = models.iter().map(|model| {
        vec![
            shown(&model["model"], 0),
            shown(&model["turn1"], 2),
            shown(&model["turn2"], 2),
            shown(&model["average"], 2),
            shown(&model["ci95"], 2),
            format!("{} of {}", model["n"], model["expected"]),
            statuses(model),
            shown(&model["fastchat"]["average"], 6),
        ]
    });
    let header =
        ["model", "turn 1", "turn 2", "average", "95% by question", "n", "statuses", "FastChat's average"];
    blocks.push(Block::Table { header: cells(&header), rows: rows.collect() });
    let by_category: Vec<_> = models
        .iter()
        .map(|model| {
            let values = model["by_category"].as_object().into_iter().flatten();
            (
                shown(&model["model"], 0),
                values.filter_map(|(name, mean)| Some((name.clone(), mean.as_f64()?))).collect(),
            )
        })
        .collect();
    if let Some(panel) = scores("Average with 95% interval", "rating", 0.0, &models, "average", "ci95") {
        blocks.push(Block::Figure {
            name: format!("mt-bench-{number}"),
            caption: "Ratings from 1 to 10.".to_owned(),
            svg: figure::svg(vec![vec![panel]], [760.0, height(&models)]),
        });
    }
    if let Some(panel) = categories::panel(&by_category) {
        blocks.push(Block::Figure {
            name: format!("mt-bench-categories-{number}"),
            caption: "Means by category over both turns.".to_owned(),
            svg: figure::svg(vec![vec![panel]], [760.0, 480.0]),
        });
    }
    let pairs: Vec<_> = summary["pairs"].as_array().into_iter().flatten().collect();
    if !pairs.is_empty() {
        let keys = ["model", "wins", "losses", "ties", "win_rate_adjusted"];
        let rows = pairs.iter().map(|pair| keys.iter().map(|key| shown(&pair[*key], 3)).collect());
        let header = ["games against the baseline", "wins", "losses", "ties", "adjusted win rate"];
        blocks.push(Block::Table { header: cells(&header), rows: rows.collect() });
    }
    let compared: Vec<_> = summary["compare"].as_array().into_iter().flatten().collect();
    if !compared.is_empty() {
        let rows = compared.iter().map(|pair| {
            let low = pair["ci95"][0].as_f64().unwrap_or(f64::NEG_INFINITY);
            let high = pair["ci95"][1].as_f64().unwrap_or(f64::INFINITY);
            let verdict = if low <= 0.0 && high >= 0.0 { "not distinguishable" } else { "different" };
            vec![
                format!("{} − {}", shown(&pair["a"], 0), shown(&pair["b"], 0)),
                shown(&pair["questions"], 0),
                shown(&pair["mean"], 3),
                shown(&pair["ci95"], 3),
                shown(&pair["smallest_detectable"], 3),
                verdict.to_owned(),
            ]
        });
        let header =
            ["models", "shared questions", "difference", "95% interval", "smallest that would show", ""];
        blocks.push(Block::Table { header: cells(&header), rows: rows.collect() });
    }
    blocks
}

fn arena(number: usize, summary: &Value) -> Vec<Block> {
    let models = summary["models"].as_array().cloned().unwrap_or_default();
    let mut blocks = vec![Block::Heading(format!(
        "Arena-Hard v0.1 against {}, judged by {}",
        shown(&summary["baseline"], 0),
        shown(&summary["judge"], 0)
    ))];
    for said in [&summary["label"], &summary["settings"]].into_iter().filter_map(Value::as_str) {
        blocks.push(Block::Text(said.to_owned()));
    }
    let rows = models.iter().map(|model| {
        vec![
            shown(&model["model"], 0),
            shown(&model["score"], 2),
            shown(&model["ci95_question"], 2),
            shown(&model["ci95_v01"], 2),
            format!("{} − {}", shown(&model["games"], 0), shown(&model["games_dropped"], 0)),
            statuses(model),
            shown(&model["position_bias"], 3),
            shown(&model["avg_tokens"], 0),
            shown(&model["style_control"]["score"], 2),
            shown(&model["equal_style"]["score"], 2),
        ]
    });
    let header = [
        "model",
        "score",
        "95% by question",
        "95% of v0.1",
        "games − dropped",
        "statuses",
        "position bias",
        "tokens",
        "style control",
        "equal style",
    ];
    blocks.push(Block::Table { header: cells(&header), rows: rows.collect() });
    if let Some(panel) =
        scores("Score with 95% interval by question", "% of points", 50.0, &models, "score", "ci95_question")
    {
        blocks.push(Block::Figure {
            name: format!("arena-hard-{number}"),
            caption: "The line at 50 is the baseline.".to_owned(),
            svg: figure::svg(vec![vec![panel]], [760.0, height(&models)]),
        });
    }
    blocks
}

/// A few questions with each model's answer and what the judge said.
fn examples(arguments: &Arguments, questions: &Path) -> Result<Vec<Block>, Failure> {
    let asked_in = questions.display();
    let questions = asked(questions)?;
    let read = |path: &PathBuf| -> Result<Vec<Value>, Failure> {
        let rows: Vec<Value> = jsonl::read(path)?.into_iter().map(|(_, row)| row).collect();
        match rows.iter().any(|row| questions.iter().any(|(id, _)| row["question_id"] == *id)) {
            true => Ok(rows),
            false => Err(Failure::input(format!(
                "{}: no row is of a question of {asked_in}\nhint: name the questions that were answered and judged",
                path.display()
            ))),
        }
    };
    let judgments = arguments.judgments.iter().map(read).collect::<Result<Vec<_>, _>>()?.concat();
    let named = |path: &PathBuf| {
        Ok((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), read(path)?))
    };
    let answers: Vec<(String, Vec<Value>)> =
        arguments.answers.iter().map(named).collect::<Result<_, Failure>>()?;
    let answered =
        |id: &Value| answers.iter().any(|(_, rows)| rows.iter().any(|row| row["question_id"] == *id));
    let questions: Vec<_> = questions.into_iter().filter(|(id, _)| answered(id)).collect();
    let mut blocks = vec![Block::Heading("Examples".to_owned())];
    let step = (questions.len() / arguments.examples.max(1)).max(1);
    for (id, turns) in questions.iter().step_by(step).take(arguments.examples) {
        blocks.push(Block::Text(format!("Question {}", shown(id, 0))));
        for (model, rows) in &answers {
            let Some(answer) = rows.iter().find(|row| row["question_id"] == *id) else { continue };
            let texts = answer["choices"][0]["turns"].as_array().cloned().unwrap_or_default();
            let mut text = String::new();
            for (turn, (asked, said)) in turns.iter().zip(&texts).enumerate() {
                let said = said.as_str().or(said["content"].as_str()).unwrap_or_default();
                text += &format!("user, turn {}:\n{asked}\n\n{model}:\n{said}\n\n", turn + 1);
            }
            for judgment in
                judgments.iter().filter(|row| row["question_id"] == *id && row["model"] == model.as_str())
            {
                if let Some(said) = judgment["judgment"].as_str() {
                    text += &format!(
                        "judge, turn {} (score {}):\n{said}\n\n",
                        judgment["turn"], judgment["score"]
                    );
                }
                for (game, said) in judgment["games"].as_array().into_iter().flatten().enumerate() {
                    text += &format!(
                        "judge, game {} ({}):\n{}\n\n",
                        game + 1,
                        shown(&said["score"], 0),
                        said["judgment"].as_str().unwrap_or_default().trim()
                    );
                }
            }
            blocks.push(Block::Code(text));
        }
    }
    Ok(blocks)
}

/// Ids and turns of either benchmark's questions.
fn asked(path: &Path) -> Result<Vec<(Value, Vec<String>)>, Failure> {
    let of_arena = jsonl::read(path)?.first().is_some_and(|(_, row)| {
        let first: Option<&Map<String, Value>> = row["turns"][0].as_object();
        first.is_some()
    });
    Ok(match of_arena {
        true => arena_hard::Questions::read(path)?
            .rows
            .into_iter()
            .map(|row| (row.question_id.into(), row.turns.into_iter().map(|turn| turn.content).collect()))
            .collect(),
        false => mt_bench::Questions::read(path)?
            .rows
            .into_iter()
            .map(|row| (row.question_id.into(), row.turns))
            .collect(),
    })
}
