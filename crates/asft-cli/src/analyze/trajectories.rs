//! `asft analyze trajectories`.

use asft_core::{Flow, Objective, Trajectory};
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
    /// Starting points a side, evenly from 0.1 to 0.9.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..=50))]
    starts: u16,
    /// Time for which each is followed, in units of dx/dt = −∇L.
    #[arg(long, default_value_t = 1.0)]
    time: f64,
    /// Likelihood margin x1 − x2 whose time is noted.
    #[arg(long, default_value_t = 0.5)]
    goal: f64,
}

/// No likelihood goes nearer to 0 or 1.
const BORDER: f64 = 0.005;

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    for (option, value) in [("--time", arguments.time), ("--goal", arguments.goal)] {
        if !(value > 0.0 && value.is_finite()) {
            return Err(Failure::input(format!("{option} must be a number above 0, got {value}")));
        }
    }
    let objectives = arguments.plane.objectives()?;
    let directory = &arguments.plane.output;
    create(directory)?;
    let flow = Flow { time: arguments.time, goal: arguments.goal, border: BORDER };
    let last = f64::from(arguments.starts - 1);
    let axis = || (0..arguments.starts).map(move |i| 0.1 + 0.8 * f64::from(i) / last);
    let mut csv = "objective,start_x1,start_x2,end_x1,end_x2,length,time_to_goal\n".to_owned();
    let (mut panels, mut rows) = (vec![], String::new());
    for objective in &objectives {
        let mut ways = vec![];
        for start in axis().flat_map(|x2| axis().map(move |x1| [x1, x2])) {
            ways.push(objective.follow(start, flow).map_err(|error| Failure::Run(error.into()))?);
        }
        for way in &ways {
            csv += &csv_line(objective, way);
        }
        rows += &summary(objective, &ways);
        let points: Vec<_> = ways.into_iter().map(|way| way.points).collect();
        panels.push(Panel::ways(&title(objective), &points));
    }
    figure::write(directory, "trajectories", vec![panels], [520.0, 520.0])?;
    output::write_file(&directory.join("trajectories.csv"), csv.as_bytes())?;
    let table = format!(
        "| after time {} | mean end (x1, x2) | spread of ends | mean margin | length of the way | reach margin {} | median time to it |\n\
         |---|---|---|---|---|---|---|\n{rows}",
        arguments.time, arguments.goal
    );
    let page = format!(
        "# Trajectories of gradient descent\n\n![Ways from blue starts to red ends](trajectories.svg)\n\n{table}\n\
         Each start is followed along dx/dt = −∇L of the preference part, without the NLL that training adds; no likelihood \
         goes nearer than {BORDER} to 0 or 1. The spread is the root mean square distance of the ends from their mean: the \
         smaller it is, the less the end depends on the start. Time is that of the likelihoods, not of a network's weights. \
         A start beyond the margin has reached it at time 0.\n\nSettings:\n\n{}",
        settings(&objectives)
    );
    output::write_file(&directory.join("trajectories.md"), page.as_bytes())?;
    output::print(&format!("{table}\n{}\n", directory.join("trajectories.md").display()))
}

fn end(way: &Trajectory) -> [f64; 2] {
    *way.points.last().expect("a way has a start")
}

fn csv_line(objective: &Objective, way: &Trajectory) -> String {
    let ([x1, x2], [e1, e2]) = (way.points[0], end(way));
    let time = way.time_to_goal.map_or(String::new(), |time| format!("{time:.6}"));
    format!("{},{x1:.4},{x2:.4},{e1:.6},{e2:.6},{:.6},{time}\n", objective.name(), way.length)
}

fn summary(objective: &Objective, ways: &[Trajectory]) -> String {
    let count = ways.len() as f64;
    let mean = |value: &dyn Fn(&Trajectory) -> f64| ways.iter().map(value).sum::<f64>() / count;
    let [x1, x2] = [0, 1].map(|side| mean(&|way| end(way)[side]));
    let spread = mean(&|way| (end(way)[0] - x1).powi(2) + (end(way)[1] - x2).powi(2)).sqrt();
    let mut times: Vec<f64> = ways.iter().filter_map(|way| way.time_to_goal).collect();
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).map_or("–".to_owned(), |time| format!("{time:.3}"));
    format!(
        "| {} | ({x1:.3}, {x2:.3}) | {spread:.3} | {:+.3} | {:.3} | {} of {} | {median} |\n",
        title(objective),
        x1 - x2,
        mean(&|way| way.length),
        times.len(),
        ways.len()
    )
}
