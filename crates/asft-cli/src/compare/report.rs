//! The report of a comparison: tables with intervals, curves, and the commands that make every number again.

use asft_eval::{
    page::{Block, Page},
    statistics::Estimate,
};

use super::{
    answers::Answers,
    benchmarks,
    plan::Plan,
    record::{Record, Split},
    summary::{ACCURACY, ACCURACY_BEFORE, CHOSEN, MARGIN, OfPair, REJECTED, Summary},
};
use crate::{
    failure::Failure,
    figure::{self, Panel},
    output,
};

/// Writes `report.md`, `report.html` and the pictures into the comparison's directory; gives the main table.
pub fn write(
    plan: &Plan,
    command: &str,
    records: &[Record],
    benchmarks: &[benchmarks::Summary],
) -> Result<String, Failure> {
    let page = page(plan, command, records, benchmarks)?;
    let directory = &plan.settings.output;
    for (name, svg) in page.figures() {
        output::write_file(&directory.join(format!("{name}.svg")), svg.as_bytes())?;
    }
    output::write_file(&directory.join("report.md"), page.markdown().as_bytes())?;
    output::write_file(&directory.join("report.html"), page.html().as_bytes())?;
    let main = page
        .blocks
        .into_iter()
        .skip_while(|block| !matches!(block, Block::Heading(text) if text == RESULT))
        .take(2);
    Ok(Page { title: page.title, blocks: main.collect() }.markdown())
}

const RESULT: &str = "Held-out result";

fn page(
    plan: &Plan,
    command: &str,
    records: &[Record],
    benchmarks: &[benchmarks::Summary],
) -> Result<Page, Failure> {
    let summaries: Vec<Summary<'_>> =
        plan.variants.iter().map(|variant| Summary::new(plan, variant, records)).collect();
    let done: Vec<&Summary<'_>> = summaries.iter().filter(|summary| !summary.runs.is_empty()).collect();
    let mut blocks = protocol(plan, records);
    blocks.push(Block::Heading(RESULT.to_owned()));
    if done.is_empty() {
        blocks.push(Block::Text("No variant has been trained with every learning rate yet.".to_owned()));
    } else {
        blocks.extend(results(&done));
        blocks.extend(differences(plan, &done));
        blocks.push(curves(&done)?);
    }
    blocks.extend(answered(&done));
    blocks.extend(benchmarks::tables(plan, benchmarks));
    blocks.push(Block::Heading("Learning rates".to_owned()));
    blocks.push(rates(plan, &summaries));
    if !done.is_empty() {
        blocks.extend(costs(&done));
    }
    blocks.push(Block::Heading("To make these numbers again".to_owned()));
    blocks.push(Block::Text(
        "The whole comparison, runs that have a result left out; then each run by itself, its configuration being among the results:"
            .to_owned(),
    ));
    let runs = records.iter().map(|record| {
        let name = record.config.train.output.rsplit('/').next().unwrap_or_default();
        format!("asft train --config {}/configs/{name}.toml\n", plan.settings.output.display())
    });
    blocks.push(Block::Code(format!("{command}\n\n{}", runs.collect::<String>())));
    Ok(Page { title: format!("Comparison of {} variants", plan.variants.len()), blocks })
}

fn protocol(plan: &Plan, records: &[Record]) -> Vec<Block> {
    let settings = &plan.settings;
    let Some(record) = records.first() else { return vec![] };
    let config = &record.config;
    let test = record.test_pairs.len();
    let items = vec![
        format!("Model: {}, trained in {}.", config.model.path, config.model.dtype.name()),
        format!("Pairs: {}, prompt and answer at most {} tokens.", config.data.train.join(", "), config.data.max_length),
        format!(
            "Every run: {} pairs in steps of {}, AdamW, {} schedule, the variant's own objective and nothing else changed.",
            record.pairs,
            config.train.pairs_per_step,
            format!("{:?}", config.schedule.kind).to_lowercase()
        ),
        format!(
            "Held out from all runs alike: {} pairs that choose each variant's learning rate ({}) and {test} test pairs, of which all results are.",
            settings.validation_pairs,
            settings.select.title()
        ),
        format!(
            "Learning rates {} are tried with seed {}; the chosen one is trained with seeds {}. A seed decides which pairs are drawn in which order.",
            settings.learning_rates.iter().map(|rate| format!("{rate:e}")).collect::<Vec<_>>().join(", "),
            settings.seeds[0],
            settings.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
        ),
        "Margin: log-prob per token of the chosen answer minus that of the rejected one, nats. Accuracy: share of pairs where it is above 0.".to_owned(),
    ];
    let variants = plan.variants.iter().filter_map(|variant| {
        let record = records.iter().find(|record| record.variant == *variant)?;
        let objective = serde_json::to_string(&record.config.objective).unwrap_or_default();
        Some(format!("{variant}: {objective}"))
    });
    vec![
        Block::Heading("Protocol".to_owned()),
        Block::List(items),
        Block::Text("The variants' objectives:".to_owned()),
        Block::List(variants.collect()),
    ]
}

fn results(done: &[&Summary<'_>]) -> Vec<Block> {
    let rows = done.iter().map(|summary| {
        let seeds = |of: OfPair, scale: f64, digits: usize| estimate(summary.over_seeds(of), scale, digits);
        vec![
            summary.variant.to_owned(),
            summary.chosen.map_or(String::new(), |rate| format!("{rate:e}")),
            summary.runs.len().to_string(),
            seeds(MARGIN, 1.0, 4),
            estimate(summary.over_pairs(MARGIN), 1.0, 4),
            summary
                .over_seeds(ACCURACY_BEFORE)
                .map_or(String::new(), |before| format!("{:.1}", 100.0 * before.mean)),
            seeds(ACCURACY, 100.0, 1).trim_start_matches('+').to_owned(),
            seeds(CHOSEN, 1.0, 3),
            seeds(REJECTED, 1.0, 3),
        ]
    });
    let header = [
        "variant",
        "learning rate",
        "seeds",
        "change of margin, over seeds",
        "the same, over pairs",
        "accuracy before, %",
        "after, over seeds",
        "change of chosen log-prob",
        "of rejected",
    ];
    vec![
        Block::Table { header: cells(header), rows: rows.collect() },
        Block::Text(
            "± is half a 95% interval by Student's t: over seeds, how much another order of training pairs would change the mean; over pairs, how much other test pairs would (each pair's mean over the seeds)."
                .to_owned(),
        ),
    ]
}

fn differences(plan: &Plan, done: &[&Summary<'_>]) -> Vec<Block> {
    let Some(baseline) = done.iter().find(|summary| summary.variant == plan.baseline()) else {
        return vec![];
    };
    let rows = done.iter().filter(|summary| summary.variant != baseline.variant).map(|summary| {
        let of = |of: OfPair, scale: f64, digits: usize| {
            let difference = summary.difference(baseline, of);
            let clear = difference.is_some_and(|difference| difference.excludes_zero());
            format!("{}{}", estimate(difference, scale, digits), if clear { " *" } else { "" })
        };
        vec![
            summary.variant.to_owned(),
            of(MARGIN, 1.0, 4),
            of(ACCURACY, 100.0, 1),
            of(CHOSEN, 1.0, 3),
            of(REJECTED, 1.0, 3),
        ]
    });
    vec![
        Block::Heading(format!("Against {}, pair by pair", baseline.variant)),
        Block::Table {
            header: cells(["variant", "margin", "accuracy, points", "chosen log-prob", "rejected log-prob"]),
            rows: rows.collect(),
        },
        Block::Text(
            "Mean over test pairs of the difference of the two variants' means over seeds. A star marks 95% intervals that leave 0 out, each for itself: with many rows some will by chance."
                .to_owned(),
        ),
    ]
}

fn curves(done: &[&Summary<'_>]) -> Result<Block, Failure> {
    type Read = fn(&Split) -> Option<f64>;
    let change = |read: Read| -> Vec<(String, Vec<[f64; 2]>)> {
        let curve = |summary: &&Summary<'_>| {
            let steps = summary.runs[0].evaluations.iter().map(|evaluation| evaluation.step);
            let points = steps.filter_map(|step| {
                let values = summary.runs.iter().filter_map(|run| {
                    read(&run.evaluations.iter().find(|evaluation| evaluation.step == step)?.test)
                });
                Some([step as f64, Estimate::of(&values.collect::<Vec<_>>())?.mean])
            });
            (summary.variant.to_owned(), points.collect())
        };
        done.iter().map(curve).collect()
    };
    let panels = vec![
        Panel::lines(
            "Likelihood margin",
            ["step", "change, nats per token"],
            &change(|split| Some(split.metrics?.margin? - split.before?.margin?)),
        ),
        Panel::lines(
            "Chosen answer's log-prob",
            ["step", "change, nats per token"],
            &change(|split| Some(split.metrics?.logps_chosen - split.before?.logps_chosen)),
        ),
        Panel::lines(
            "Rejected answer's log-prob",
            ["step", "change, nats per token"],
            &change(|split| Some(split.metrics?.logps_rejected? - split.before?.logps_rejected?)),
        ),
    ];
    Ok(Block::Figure {
        name: "curves".to_owned(),
        caption: "Test pairs by step, as change from the untrained model on the same pairs, mean over seeds. The first panel is the paper's Figure 2a but for its starting point.".to_owned(),
        svg: figure::svg(vec![panels], [480.0, 360.0]),
    })
}

fn rates(plan: &Plan, summaries: &[Summary<'_>]) -> Block {
    let select = plan.settings.select;
    let mut header = vec!["variant".to_owned()];
    header.extend(plan.settings.learning_rates.iter().map(|rate| format!("{rate:e}")));
    header.push("chosen".to_owned());
    let rows = summaries.iter().map(|summary| {
        let mut row = vec![summary.variant.to_owned()];
        row.extend(summary.rates.iter().map(|(_, score)| match score {
            // Scores are negative losses: greater is better.
            Some(score) if select == super::plan::Select::Loss => format!("{:.4}", -score),
            Some(score) => format!("{score:.4}"),
            None => "not run".to_owned(),
        }));
        row.push(summary.chosen.map_or("open".to_owned(), |rate| format!("{rate:e}")));
        row
    });
    Block::Table { header, rows: rows.collect() }
}

/// What the trained models answer, if any was asked.
fn answered(done: &[&Summary<'_>]) -> Vec<Block> {
    let Some(first) = done.iter().flat_map(|summary| &summary.runs).find_map(|run| run.answers.as_ref())
    else {
        return vec![];
    };
    let rows = done.iter().map(|summary| {
        let of = |read: fn(&Answers) -> f64, scale: f64, digits: usize| {
            let values: Vec<f64> =
                summary.runs.iter().filter_map(|run| Some(read(run.answers.as_ref()?))).collect();
            estimate(Estimate::of(&values), scale, digits).trim_start_matches('+').to_owned()
        };
        vec![
            summary.variant.to_owned(),
            of(|answers| answers.text.llamafactory.bleu_4, 1.0, 2),
            of(|answers| answers.text.llamafactory.rouge_1, 1.0, 2),
            of(|answers| answers.text.llamafactory.rouge_l, 1.0, 2),
            of(|answers| answers.text.sacrebleu.score, 1.0, 2),
            of(|answers| answers.text.rouge_score.fmeasure.rouge_l, 1.0, 2),
            of(|answers| answers.tokens, 1.0, 1),
            of(|answers| answers.ended, 100.0, 0),
        ]
    });
    let header = [
        "variant",
        "LLaMA-Factory BLEU-4",
        "ROUGE-1",
        "ROUGE-L",
        "sacreBLEU",
        "rouge-score ROUGE-L",
        "tokens",
        "ended by themselves, %",
    ];
    vec![
        Block::Heading("Generated answers".to_owned()),
        Block::Table { header: cells(header), rows: rows.collect() },
        Block::Text(format!(
            "Greedy answers to {} test prompts, cut at {} tokens, against the chosen answers, which have {:.1} tokens in the mean; over seeds.",
            first.pairs, first.max_new_tokens, first.label_tokens
        )),
    ]
}

fn costs(done: &[&Summary<'_>]) -> Vec<Block> {
    let rows = done.iter().map(|summary| {
        let mean = |of: fn(&Record) -> Option<f64>| {
            Estimate::of(&summary.runs.iter().filter_map(|run| of(run)).collect::<Vec<_>>())
                .map(|estimate| estimate.mean)
        };
        let pairs = summary.runs[0].config.train.pairs_per_step as f64;
        let seconds = mean(|run| Some(run.seconds_per_step));
        vec![
            summary.variant.to_owned(),
            seconds.map_or(String::new(), |seconds| format!("{seconds:.2}")),
            seconds
                .filter(|&seconds| seconds > 0.0)
                .map_or(String::new(), |seconds| format!("{:.2}", pairs / seconds)),
            mean(|run| run.peak_memory_bytes.map(|bytes| bytes as f64 / 1e9))
                .map_or(String::new(), |bytes| format!("{bytes:.2}")),
        ]
    });
    vec![
        Block::Heading("Time and memory".to_owned()),
        Block::Table {
            header: cells(["variant", "seconds a step", "pairs a second", "peak memory, GB"]),
            rows: rows.collect(),
        },
        Block::Text(
            "Median step and highest memory of each run, mean over seeds. Runs follow each other, so what else the machine did meanwhile is in their times; asft bench reference measures the cost of a reference model in turn."
                .to_owned(),
        ),
    ]
}

fn estimate(estimate: Option<Estimate>, scale: f64, digits: usize) -> String {
    let Some(estimate) = estimate else { return String::new() };
    let mean = estimate.mean * scale;
    match estimate.half_width {
        Some(half_width) => format!("{mean:+.digits$} ± {:.digits$}", half_width * scale),
        None => format!("{mean:+.digits$}"),
    }
}

fn cells<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
