//! Time and memory side by side as SVG.

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::program::Program;

const SIZE: (u32, u32) = (1040, 400);

/// A measured step.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub pairs: f64,
    pub tokens: f64,
    pub seconds: f64,
    /// Peak of the process.
    pub bytes: f64,
}

/// The steps of one program, from the smallest on.
#[derive(Clone, Debug)]
pub struct Line {
    pub program: Program,
    pub points: Vec<Point>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Two panels over the same horizontal axis, both from zero on.
pub fn svg(title: &str, x_label: &str, lines: &[Line], x: fn(&Point) -> f64) -> String {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error + '_>> {
        area.fill(&WHITE)?;
        let (left, right) = area.split_horizontally(SIZE.0 / 2);
        panel(&left, &format!("{title}: time of a step (s)"), x_label, lines, x, |point| point.seconds)?;
        panel(&right, &format!("{title}: peak memory (GB)"), x_label, lines, x, |point| point.bytes / 1e9)?;
        area.present()?;
        Ok(())
    };
    draw().expect("drawing into a string cannot fail");
    drop(area);
    svg
}

fn colour(program: Program) -> RGBColor {
    match program {
        Program::Asft => RGBColor(9, 105, 218),
        Program::Trl => RGBColor(207, 34, 46),
    }
}

fn panel<'a>(
    area: &Area<'a>,
    title: &str,
    x_label: &str,
    lines: &[Line],
    x: fn(&Point) -> f64,
    y: fn(&Point) -> f64,
) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let most = |value: fn(&Point) -> f64| {
        let values = lines.iter().flat_map(|line| &line.points).map(value).filter(|value| value.is_finite());
        values.fold(0.0, f64::max)
    };
    // Room for the names behind the last points.
    let (right, top) = (1.15 * most(x).max(f64::MIN_POSITIVE), ceiling(most(y)));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .axis_style(BLACK.mix(0.4))
        .label_style(("sans-serif", 13))
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .x_desc(x_label)
        .x_labels(6)
        .y_labels(6)
        .draw()?;
    for line in lines {
        let colour = colour(line.program);
        let points: Vec<(f64, f64)> = line.points.iter().map(|point| (x(point), y(point))).collect();
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
        if let Some(&last) = points.last() {
            let style =
                TextStyle::from(("sans-serif", 14)).color(&colour).pos(Pos::new(HPos::Left, VPos::Center));
            chart.draw_series([EmptyElement::at(last) + Text::new(line.program.name(), (8, 0), style)])?;
        }
    }
    Ok(())
}

/// The next of 1, 2, 4, 5, 8 or 10 times a power of ten that leaves some room.
fn ceiling(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf((value * 1.05).log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.iter().map(|step| step * power).find(|&step| step >= value * 1.05).unwrap_or(10.0 * power)
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_above_every_value() {
        for (value, expected) in
            [(0.0, 1.0), (0.9, 1.0), (1.0, 1.5), (3.7, 4.0), (19.1, 30.0), (4096.0, 5000.0)]
        {
            assert!((ceiling(value) - expected).abs() < 1e-9 * expected, "{value}: {}", ceiling(value));
        }
    }

    #[test]
    fn every_program_has_its_line_in_both_panels() {
        let point =
            |tokens: f64| Point { pairs: 1.0, tokens, seconds: tokens / 300.0, bytes: 1e9 + tokens * 1e6 };
        let points: Vec<Point> = [512.0, 1024.0, 2048.0].map(point).to_vec();
        let lines = [Program::Trl, Program::Asft].map(|program| Line { program, points: points.clone() });
        let svg = svg("One pair a step", "tokens", &lines, |point| point.tokens);
        assert_eq!((svg.matches("<svg").count(), svg.matches("</svg>").count()), (1, 1));
        for program in [Program::Trl, Program::Asft] {
            assert_eq!(svg.lines().filter(|line| line.trim() == program.name()).count(), 2, "{svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 2 * 2 * points.len());
        assert!(svg.contains("time of a step (s)") && svg.contains("peak memory (GB)"));
    }
}
