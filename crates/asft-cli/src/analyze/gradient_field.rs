//! `asft analyze gradient-field`.

use asft_core::{Objective, PlanePoint};
use clap::Args;

use super::{PlaneArguments, create, settings, title};
use crate::{
    failure::Failure,
    figure::{self, Panel},
    output,
};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    plane: PlaneArguments,
    /// Points a side of the grid, evenly from 0.02 to 0.98.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u16).range(2..=500))]
    points: u16,
}

/// The points that the paper's text reads its Figure 1 at.
const CASES: [(&str, [f64; 2]); 4] = [
    ("Case 1, top left", [0.05, 0.95]),
    ("Case 2, top right", [0.95, 0.95]),
    ("Case 3, bottom", [0.5, 0.05]),
    ("Case 3, bottom left", [0.05, 0.05]),
];

/// How to read the figure.
const READING: &str = "\
The likelihoods are x1 of the preferred and x2 of the dispreferred answer; arrows point along the negative gradient, and their \
length is the logarithm of 1 + its size. Losses are the preference parts alone, without the NLL that training adds. \
The ratio is that of the two sizes, preferred to dispreferred.
";

/// What the formulas do and do not support of the paper's reading: of DPO at any β, and ASFT at temperature 1.
const NOTES: &str = "
- \"Bradley–Terry lowers the dispreferred answer faster than it raises the preferred one\" holds where x1 > x2, below the \
diagonal; above it, it is the other way round: the ratio of the two is x2 / x1 for every β.
- By log-probabilities, which are what a network's outputs move, Bradley–Terry's two derivatives are equal and opposite, and \
ASFT's are −1 and x2 / (1 − x2). The imbalance in the figure comes from its coordinates.
- There are no saddle points: the Bradley–Terry gradient vanishes nowhere in the open square, though its Hessian is indefinite \
everywhere. ASFT's loss is strictly convex, with its infimum 0 at the corner (1, 0).
- \"Balanced\" is true of the alignment term. With the supervised term, training has the ratio (1 + β) / β · (1 − x2) / x1: eleven \
times more on the preferred answer at β = 0.1.
";

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let objectives = arguments.plane.objectives()?;
    let directory = &arguments.plane.output;
    create(directory)?;
    let last = f64::from(arguments.points - 1);
    let axis: Vec<f64> = (0..arguments.points).map(|i| 0.02 + 0.96 * f64::from(i) / last).collect();
    let mut rows = vec![];
    for objective in &objectives {
        // Row by row: x2 upwards, x1 to the right.
        let grid = axis
            .iter()
            .map(|&x2| axis.iter().map(|&x1| at(objective, [x1, x2])).collect())
            .collect::<Result<Vec<Vec<PlanePoint>>, Failure>>()?;
        write_table(arguments, objective, &grid)?;
        let surface = grid.iter().map(|row| row.iter().map(|point| point.loss).collect()).collect();
        rows.push(vec![
            Panel::surface(&format!("{}: loss", title(objective)), &axis, surface),
            Panel::arrows(
                &format!("{}: negative gradient", title(objective)),
                arrows(&grid),
                &CASES.map(|(_, x)| x),
            ),
        ]);
    }
    figure::write(directory, "gradient-field", rows, [620.0, 520.0])?;
    let table = cases(&objectives)?;
    let by_the_paper = |objective: &Objective| match objective {
        Objective::Dpo(_) => true,
        Objective::Asft(asft) => asft.temperature == 1.0,
        _ => false,
    };
    let papers = objectives.iter().filter(|objective| by_the_paper(objective)).count() == 2;
    let (notes, settings) = (if papers { NOTES } else { "" }, settings(&objectives));
    let page = format!(
        "# Gradient fields\n\n![Loss surfaces and gradient fields](gradient-field.svg)\n\n{table}\n{READING}{notes}\nSettings:\n\n{settings}"
    );
    output::write_file(&directory.join("gradient-field.md"), page.as_bytes())?;
    output::print(&format!("{table}\n{}\n", directory.join("gradient-field.md").display()))
}

fn at(objective: &Objective, x: [f64; 2]) -> Result<PlanePoint, Failure> {
    objective.at_likelihoods(x).map_err(|error| Failure::Run(error.into()))
}

/// The longest arrow spans two steps of the grid.
fn arrows(grid: &[Vec<PlanePoint>]) -> Vec<[f64; 4]> {
    // Not more than 20 arrows a side can be told apart.
    let every = grid.len().div_ceil(20);
    let shown = || grid.iter().step_by(every).flat_map(|row| row.iter().step_by(every));
    let longest = shown().map(|point| point.speed().ln_1p()).fold(0.0, f64::max);
    let reach = 2.0 * 0.96 / (grid.len() as f64 / every as f64);
    let arrow = |point: &PlanePoint| {
        let length = reach * point.speed().ln_1p() / longest / point.speed().max(1e-300);
        [point.x[0], point.x[1], point.descent[0] * length, point.descent[1] * length]
    };
    shown().map(arrow).collect()
}

fn write_table(
    arguments: &Arguments,
    objective: &Objective,
    grid: &[Vec<PlanePoint>],
) -> Result<(), Failure> {
    let mut text = "x1,x2,loss,descent_x1,descent_x2\n".to_owned();
    for PlanePoint { x, loss, descent } in grid.iter().flatten() {
        text += &format!("{:.6},{:.6},{loss:.10e},{:.10e},{:.10e}\n", x[0], x[1], descent[0], descent[1]);
    }
    let path = arguments.plane.output.join(format!("gradient-field-{}.csv", objective.name()));
    output::write_file(&path, text.as_bytes())
}

/// The marked points: where descent goes, and the ratio of its two parts.
fn cases(objectives: &[Objective]) -> Result<String, Failure> {
    let names: Vec<String> =
        objectives.iter().map(|objective| format!(" {} | ratio |", title(objective))).collect();
    let mut text =
        format!("| | (x1, x2) |{}\n|---|---|{}\n", names.concat(), "---|---|".repeat(objectives.len()));
    for (name, x) in CASES {
        text += &format!("| {name} | ({}, {}) |", x[0], x[1]);
        for objective in objectives {
            let point = at(objective, x)?;
            let [up, down] = point.descent;
            text += &format!(" ({up:+.3}, {down:+.3}) | {:.3} |", point.ratio());
        }
        text.push('\n');
    }
    Ok(text)
}
