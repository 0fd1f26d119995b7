//! `report.html`: one self-contained page with the curves of a run and its result.

use std::path::{Path, PathBuf};

use asft_core::Metrics;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    config::RunConfig,
    error::TrainError,
    metrics::{Kind, MetricsRow},
    run_directory::write_atomically,
};

const STYLE: &str = "
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 72rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)); gap: 1.5rem; }
.charts svg { width: 100%; height: auto; border: 1px solid #d8dee4; border-radius: 6px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .9rem; border-bottom: 1px solid #d8dee4; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
pre { background: #f6f8fa; padding: 1rem; border-radius: 6px; overflow-x: auto; font-size: .85rem; }
p.note { color: #57606a; margin-top: .4rem; }
@media (max-width: 34rem) { .charts { grid-template-columns: 1fr; } }
";

/// Writes the page beside the metrics it was made from.
pub fn write(run: &Path, config: &RunConfig, rows: &[MetricsRow]) -> Result<PathBuf, TrainError> {
    let path = run.join("report.html");
    write_atomically(&path, page(config, rows).into_string().as_bytes())?;
    Ok(path)
}

type Read = fn(&MetricsRow) -> Option<f64>;

/// A line of a chart: its name, the kind of rows and the value read from them.
type LineSpec = (&'static str, Kind, Read);

/// Titles of the charts and their lines.
const CHARTS: [(&str, &[LineSpec]); 6] = [
    (
        "Loss (nats)",
        &[
            ("training", Kind::Train, |row| Some(row.metrics.loss)),
            ("held out", Kind::Eval, |row| Some(row.metrics.loss)),
        ],
    ),
    (
        "Likelihood margin, chosen − rejected (nats per token)",
        &[
            ("training", Kind::Train, |row| row.metrics.margin),
            ("held out", Kind::Eval, |row| row.metrics.margin),
        ],
    ),
    (
        "Preference accuracy",
        &[
            ("training", Kind::Train, |row| row.metrics.accuracy),
            ("held out", Kind::Eval, |row| row.metrics.accuracy),
        ],
    ),
    (
        "Held-out log-probs (nats per token)",
        &[
            ("chosen", Kind::Eval, |row| Some(row.metrics.logps_chosen)),
            ("rejected", Kind::Eval, |row| row.metrics.logps_rejected),
        ],
    ),
    ("Gradient norm before clipping", &[("training", Kind::Train, |row| row.grad_norm)]),
    ("Learning rate", &[("training", Kind::Train, |row| row.learning_rate)]),
];

const COLOURS: [RGBColor; 2] = [RGBColor(9, 105, 218), RGBColor(207, 34, 46)];

fn page(config: &RunConfig, rows: &[MetricsRow]) -> Markup {
    let evaluations: Vec<_> = rows.iter().filter(|row| row.kind == Kind::Eval).collect();
    let steps: Vec<_> = rows.iter().filter(|row| row.kind == Kind::Train).collect();
    let seconds: f64 = steps.iter().map(|row| row.seconds).sum();
    let pairs: usize = steps.iter().map(|row| row.pairs).sum();
    let peak = rows.iter().filter_map(|row| row.peak_memory_bytes).max();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "asft: " (config.objective.name()) " on " (config.model.path) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (config.objective.name().to_uppercase()) " on " (config.model.path) }
                p.note {
                    (steps.len()) " steps, " (pairs) " pairs"
                    @if seconds > 0.0 { ", " (format!("{:.2}", pairs as f64 / seconds)) " pairs/s" }
                    @if let Some(peak) = peak { ", peak memory " (format!("{:.2}", peak as f64 / 1e9)) " GB" }
                }
                @if let (Some(before), Some(after)) = (evaluations.first(), evaluations.last()) {
                    h2 { "Held-out pairs" }
                    (result_table(before, after))
                }
                h2 { "Curves" }
                div.charts {
                    @for (title, lines) in CHARTS {
                        @let lines = lines_of(rows, lines);
                        @if !lines.is_empty() { (PreEscaped(chart(title, &lines))) }
                    }
                }
                h2 { "Configuration" }
                pre { (config.to_toml()) }
            }
        }
    }
}

fn result_table(before: &MetricsRow, after: &MetricsRow) -> Markup {
    html! {
        table {
            tr { th { "" } th { "step " (before.step) } th { "step " (after.step) } th { "change" } }
            @for (name, read) in RESULT_ROWS {
                @if let (Some(before), Some(after)) = (read(&before.metrics), read(&after.metrics)) {
                    tr {
                        td { (name) }
                        td { (format!("{before:.4}")) }
                        td { (format!("{after:.4}")) }
                        td { (format!("{:+.4}", after - before)) }
                    }
                }
            }
        }
        p.note { (before.pairs) " pairs at step " (before.step) ", " (after.pairs) " at step " (after.step) "; log-probs in nats per token." }
    }
}

/// A name and the metric it stands for, absent where a side is.
pub type ResultRow = (&'static str, fn(&Metrics) -> Option<f64>);

/// What is reported of held-out pairs, here and on the terminal.
pub const RESULT_ROWS: [ResultRow; 5] = [
    ("preference accuracy", |metrics| metrics.accuracy),
    ("margin", |metrics| metrics.margin),
    ("log-prob, chosen", |metrics| Some(metrics.logps_chosen)),
    ("log-prob, rejected", |metrics| metrics.logps_rejected),
    ("loss", |metrics| Some(metrics.loss)),
];

struct Line<'a> {
    name: &'a str,
    points: Vec<(f64, f64)>,
}

fn lines_of<'a>(rows: &[MetricsRow], lines: &[(&'a str, Kind, Read)]) -> Vec<Line<'a>> {
    let points = |kind: Kind, read: Read| -> Vec<(f64, f64)> {
        let of_kind = rows.iter().filter(|row| row.kind == kind);
        of_kind.filter_map(|row| Some((row.step as f64, read(row)?))).filter(|(_, y)| y.is_finite()).collect()
    };
    let lines = lines.iter().map(|&(name, kind, read)| Line { name, points: points(kind, read) });
    lines.filter(|line| !line.points.is_empty()).collect()
}

fn chart(title: &str, lines: &[Line<'_>]) -> String {
    let mut svg = String::new();
    let backend = SVGBackend::with_string(&mut svg, (640, 360));
    draw(backend, title, lines).expect("drawing into a string cannot fail");
    svg
}

fn draw(backend: SVGBackend<'_>, title: &str, lines: &[Line<'_>]) -> Result<(), Box<dyn std::error::Error>> {
    let area = backend.into_drawing_area();
    area.fill(&WHITE)?;
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let (left, right) = bounds(points().map(|(x, _)| x), 0.0);
    let (bottom, top) = bounds(points().map(|(_, y)| y), 0.06);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 17))
        .margin(14)
        .x_label_area_size(38)
        .y_label_area_size(74)
        .build_cartesian_2d(left..right, bottom..top)?;
    let axis = |value: &f64| match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        _ => format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .label_style(("sans-serif", 13))
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&axis)
        .x_desc("step")
        .y_labels(6)
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS) {
        chart.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?;
        if line.points.len() < 60 {
            chart.draw_series(line.points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
        }
    }
    if lines.len() > 1 {
        // Beside the title, from the right, where no curve can run through them.
        for (index, (line, colour)) in lines.iter().zip(COLOURS).rev().enumerate() {
            let style =
                TextStyle::from(("sans-serif", 14)).color(&colour).pos(Pos::new(HPos::Right, VPos::Top));
            area.draw(&Text::new(line.name, (626 - 72 * index as i32, 18), style))?;
        }
    }
    area.present()?;
    Ok(())
}

/// Least and greatest value, moved apart by a share of their distance and never equal.
fn bounds(values: impl Iterator<Item = f64>, share: f64) -> (f64, f64) {
    let (least, greatest) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), value| {
        (least.min(value), greatest.max(value))
    });
    match greatest - least {
        0.0 => {
            let pad = if least == 0.0 { 1.0 } else { 0.1 * least.abs() };
            (least - pad, greatest + pad)
        }
        distance => (least - share * distance, greatest + share * distance),
    }
}
