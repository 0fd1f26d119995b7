//! Pictures as SVG and PNG: the only file that knows the plotting library.

use std::path::Path;

use kuva::{
    PngBackend,
    prelude::{ColorMap, ForestPlot, LinePlot, Plot, QuiverPlot, RadarPlot, ScatterPlot},
    render::{figure::Figure, layout::Layout, render::Scene},
};

use crate::{failure::Failure, output};

/// Colours of lines, in order.
const COLOURS: [&str; 8] =
    ["#0969da", "#cf222e", "#1a7f37", "#8250df", "#bc4c00", "#57606a", "#bf3989", "#1b7c83"];

/// One picture in a row of pictures.
pub struct Panel {
    plots: Vec<Plot>,
    layout: Layout,
}

impl Panel {
    /// `z[row][column]` over `x[column]` and `y[row]`, seen from the side.
    pub fn surface(title: &str, axis: &[f64], z: Vec<Vec<f64>>) -> Self {
        let surface = kuva::prelude::Surface3DPlot::new(z)
            .with_x_coords(axis.to_vec())
            .with_y_coords(axis.to_vec())
            .with_z_colormap(ColorMap::Viridis)
            .with_wireframe_width(0.3)
            .with_azimuth(-125.0)
            .with_elevation(28.0)
            .with_x_label("x1")
            .with_y_label("x2")
            .with_z_label("loss");
        let plots = vec![Plot::Surface3D(surface)];
        let layout = Layout::auto_from_plots(&plots).with_title(title);
        Self { plots, layout }
    }

    /// Arrows `[x, y, dx, dy]` over the unit square, with marked points.
    pub fn arrows(title: &str, arrows: Vec<[f64; 4]>, marks: &[[f64; 2]]) -> Self {
        let mut field = QuiverPlot::new().with_color("#cf222e").with_shaft_width(1.1).with_head_max_px(7.0);
        for [x, y, dx, dy] in arrows {
            field = field.with_arrow(x, y, dx, dy);
        }
        let marks = ScatterPlot::new()
            .with_data(marks.iter().map(|mark| (mark[0], mark[1])).collect::<Vec<_>>())
            .with_color("#0969da")
            .with_size(5.0);
        let plots = vec![Plot::Quiver(field), Plot::Scatter(marks)];
        Self { layout: unit_square(&plots, title), plots }
    }

    /// Ways through the unit square, each with its start marked.
    pub fn ways(title: &str, ways: &[Vec<[f64; 2]>]) -> Self {
        let points = |way: &[[f64; 2]]| way.iter().map(|point| (point[0], point[1])).collect::<Vec<_>>();
        let mut plots: Vec<Plot> = ways
            .iter()
            .map(|way| {
                Plot::Line(
                    LinePlot::new().with_data(points(way)).with_color("#57606a").with_stroke_width(1.0),
                )
            })
            .collect();
        let dots = |colour: &str, ends: Vec<[f64; 2]>, size: f64| {
            Plot::Scatter(ScatterPlot::new().with_data(points(&ends)).with_color(colour).with_size(size))
        };
        plots.push(dots("#0969da", ways.iter().filter_map(|way| way.first().copied()).collect(), 3.0));
        plots.push(dots("#cf222e", ways.iter().filter_map(|way| way.last().copied()).collect(), 4.0));
        Self { layout: unit_square(&plots, title), plots }
    }

    /// Named values on common axes from 0 to `most`, each around a circle.
    pub fn radar(title: &str, axes: &[String], most: f64, series: &[(String, Vec<f64>)]) -> Self {
        let mut plot = RadarPlot::new(axes.iter().cloned()).with_range(0.0, most).with_legend(true);
        for ((name, values), colour) in series.iter().zip(COLOURS.iter().cycle()) {
            plot = plot.with_series_color(values.iter().copied(), name.clone(), *colour);
        }
        let plots = vec![Plot::Radar(plot)];
        Self { layout: Layout::auto_from_plots(&plots).with_title(title), plots }
    }

    /// Named values with intervals, and a line at `neutral`.
    pub fn intervals(title: &str, x: &str, neutral: f64, rows: &[(String, f64, [f64; 2])]) -> Self {
        let mut plot = ForestPlot::new().with_color(COLOURS[0]).with_null_value(neutral).with_cap_size(4.0);
        for (name, value, [low, high]) in rows {
            plot = plot.with_row(name.clone(), *value, *low, *high);
        }
        let plots = vec![Plot::Forest(plot)];
        Self { layout: Layout::auto_from_plots(&plots).with_title(title).with_x_label(x), plots }
    }

    /// Named lines.
    pub fn lines(title: &str, [x, y]: [&str; 2], lines: &[(String, Vec<[f64; 2]>)]) -> Self {
        let line = |(index, (name, points)): (usize, &(String, Vec<[f64; 2]>))| {
            let data = points.iter().map(|point| (point[0], point[1])).collect::<Vec<_>>();
            let colour = COLOURS[index % COLOURS.len()];
            Plot::Line(
                LinePlot::new().with_data(data).with_color(colour).with_stroke_width(2.0).with_legend(name),
            )
        };
        let plots: Vec<Plot> = lines.iter().enumerate().map(line).collect();
        let layout = Layout::auto_from_plots(&plots).with_title(title).with_x_label(x).with_y_label(y);
        Self { plots, layout }
    }
}

fn unit_square(plots: &[Plot], title: &str) -> Layout {
    Layout::auto_from_plots(plots)
        .with_title(title)
        .with_x_label("x1, likelihood of the preferred answer")
        .with_y_label("x2, likelihood of the dispreferred answer")
        .with_x_axis_min(0.0)
        .with_x_axis_max(1.0)
        .with_y_axis_min(0.0)
        .with_y_axis_max(1.0)
}

/// Rows of panels as one SVG picture.
pub fn svg(rows: Vec<Vec<Panel>>, panel: [f64; 2]) -> String {
    svg_of(&scene(rows, panel))
}

/// The library leaves the view box out, without which a picture is cut and not scaled.
fn svg_of(scene: &Scene) -> String {
    let svg = kuva::backend::svg::SvgBackend::default().render_scene(scene);
    let view_box = format!("<svg viewBox=\"0 0 {} {}\" ", scene.width, scene.height);
    svg.replacen("<svg ", &view_box, 1)
}

/// Writes rows of panels as `NAME.svg` and `NAME.png` into `directory`.
pub fn write(directory: &Path, name: &str, rows: Vec<Vec<Panel>>, panel: [f64; 2]) -> Result<(), Failure> {
    let scene = scene(rows, panel);
    output::write_file(&directory.join(format!("{name}.svg")), svg_of(&scene).as_bytes())?;
    let png = PngBackend::new()
        .with_scale(2.0)
        .render_scene(&scene)
        .map_err(|error| Failure::Run(anyhow::anyhow!("{name}.png: {error}")))?;
    output::write_file(&directory.join(format!("{name}.png")), &png)
}

fn scene(rows: Vec<Vec<Panel>>, panel: [f64; 2]) -> Scene {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(1);
    let count = rows.len();
    let (plots, layouts) =
        rows.into_iter().flatten().map(|panel| (panel.plots, panel.layout)).unzip::<_, _, Vec<_>, Vec<_>>();
    Figure::new(count, columns)
        .with_plots(plots)
        .with_layouts(layouts)
        .with_cell_size(panel[0], panel[1])
        .with_keep_panel_legends()
        .render()
}
