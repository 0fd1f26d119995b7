//! The plane of two likelihoods (arXiv 2409.10571, section 4): `x1` of the preferred answer, `x2` of the other.
//!
//! A preference loss without its NLL is looked at as a function of the two probabilities themselves: answers of one
//! token with log-probs `ln x1` and `ln x2`, and a reference that gives both probability 1, so that `dpo` is the paper's
//! Bradley–Terry loss `L_BT = -log[x1^β / (x1^β + x2^β)]` (Eq 15) and `asft` its `L_ASFT = -log x1 - log(1 - x2)`
//! (Eq 17). Derivatives are those of the objective by the log-probs, divided by the probabilities.

use crate::error::ObjectiveError;
use crate::objective::Objective;
use crate::score::Answer;

/// A loss at one point of the plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanePoint {
    /// Likelihoods of the preferred and the dispreferred answer, both between 0 and 1.
    pub x: [f64; 2],
    /// The preference part of the loss, without its weight.
    pub loss: f64,
    /// Where gradient descent goes, `[-∂L/∂x1, -∂L/∂x2]`.
    pub descent: [f64; 2],
}

impl PlanePoint {
    /// `|∂L/∂x1| / |∂L/∂x2|`: how much more the preferred answer is raised than the other is lowered.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        (self.descent[0] / self.descent[1]).abs()
    }

    /// Length of the step that descent takes.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.descent[0].hypot(self.descent[1])
    }
}

/// One way of gradient descent through the plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Trajectory {
    /// Points in order, the start first.
    pub points: Vec<[f64; 2]>,
    /// Length of the way.
    pub length: f64,
    /// Time, in units of the flow `dx/dt = -∇L`, until `x1 - x2` reached the goal; absent where it did not.
    pub time_to_goal: Option<f64>,
}

/// How a flow is followed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flow {
    /// Time after which it is left.
    pub time: f64,
    /// Likelihood margin `x1 - x2` whose time is noted.
    pub goal: f64,
    /// Nearest that a likelihood comes to 0 or 1: beyond lies no probability a network gives.
    pub border: f64,
}

impl Objective {
    /// The preference part at likelihoods `x1` and `x2`.
    ///
    /// # Errors
    /// A likelihood that is not between 0 and 1.
    ///
    /// ```
    /// let asft = asft_core::Objective::by_name("asft").unwrap();
    /// let point = asft.at_likelihoods([0.05, 0.95])?;
    /// assert!((point.descent[0] - 20.0).abs() < 1e-9 && (point.descent[1] + 20.0).abs() < 1e-9);
    /// # Ok::<(), asft_core::ObjectiveError>(())
    /// ```
    pub fn at_likelihoods(&self, x: [f64; 2]) -> Result<PlanePoint, ObjectiveError> {
        if let Some(&value) = x.iter().find(|&&x| !(x > 0.0 && x < 1.0)) {
            return Err(ObjectiveError::Likelihood { value });
        }
        let [chosen, rejected] = x.map(|x| Answer { sum: x.ln(), tokens: 1.0, reference: 0.0 });
        let align = self.formula().align(&chosen, &rejected);
        Ok(PlanePoint { x, loss: align.value, descent: [-align.d_chosen / x[0], -align.d_rejected / x[1]] })
    }

    /// Follows `dx/dt = -∇L` from `start`, in steps small enough that no likelihood moves by more than a
    /// hundredth in one (explicit midpoint rule).
    ///
    /// # Errors
    /// A start that does not lie within the border.
    pub fn follow(&self, start: [f64; 2], flow: Flow) -> Result<Trajectory, ObjectiveError> {
        let Flow { time, goal, border } = flow;
        let inside = |x: [f64; 2]| x.map(|x| x.clamp(border, 1.0 - border));
        if let Some(&value) = start.iter().find(|&&x| !(border..=1.0 - border).contains(&x)) {
            return Err(ObjectiveError::Likelihood { value });
        }
        let step_from = |x: [f64; 2], slope: [f64; 2], step: f64| {
            inside([x[0] + step * slope[0], x[1] + step * slope[1]])
        };
        const LONGEST: f64 = 0.01;
        let mut trajectory = Trajectory { points: vec![start], length: 0.0, time_to_goal: None };
        let (mut x, mut now) = (start, 0.0);
        while now < time {
            if trajectory.time_to_goal.is_none() && x[0] - x[1] >= goal {
                trajectory.time_to_goal = Some(now);
            }
            let slope = self.at_likelihoods(x)?.descent;
            let fastest = slope[0].abs().max(slope[1].abs());
            let step = (LONGEST / fastest.max(1e-12)).min(time / 200.0).min(time - now);
            let middle = self.at_likelihoods(step_from(x, slope, step / 2.0))?.descent;
            let next = step_from(x, middle, step);
            let moved = (next[0] - x[0]).hypot(next[1] - x[1]);
            (x, now) = (next, now + step);
            trajectory.length += moved;
            trajectory.points.push(x);
            if moved == 0.0 {
                break;
            }
        }
        Ok(trajectory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Asft, Dpo, Orpo};

    fn close(got: f64, want: f64, relative: f64) {
        assert!((got - want).abs() <= relative * want.abs().max(1e-6), "got {got:e}, want {want:e}");
    }

    fn grid() -> impl Iterator<Item = [f64; 2]> {
        let axis = || (1..50).map(|i| f64::from(i) / 50.0);
        axis().flat_map(move |x1| axis().map(move |x2| [x1, x2]))
    }

    /// Eq 15 and Theorem A.1; Eq 17 and Theorem A.2 with a temperature; ORPO's ratio loss.
    #[test]
    fn the_closed_forms_of_the_paper() {
        for x in grid() {
            let [x1, x2] = x;
            for beta in [0.1, 1.0, 2.5] {
                let bt = Objective::from(Dpo { beta, ..Dpo::default() }).at_likelihoods(x).unwrap();
                let sum = x1.powf(beta) + x2.powf(beta);
                close(bt.loss, -(x1.powf(beta) / sum).ln(), 1e-9);
                close(bt.descent[0], beta * x2.powf(beta) / (x1 * sum), 1e-9);
                close(bt.descent[1], -beta * x2.powf(beta - 1.0) / sum, 1e-9);
                close(bt.ratio(), x2 / x1, 1e-9);
            }
            for temperature in [1.0, 0.1, 3.0] {
                let asft =
                    Objective::from(Asft { temperature, ..Asft::default() }).at_likelihoods(x).unwrap();
                let (t, q1, q2) = (temperature, 1.0 - x1, 1.0 - x2);
                close(asft.descent[0], t * q1.powf(t - 1.0) / (x1 * (x1.powf(t) + q1.powf(t))), 1e-9);
                close(asft.descent[1], -t * x2.powf(t - 1.0) / (q2 * (x2.powf(t) + q2.powf(t))), 1e-9);
                if t == 1.0 {
                    close(asft.loss, -x1.ln() - (1.0 - x2).ln(), 1e-9);
                    close(asft.ratio(), (1.0 - x2) / x1, 1e-9);
                }
            }
            let orpo = Objective::from(Orpo::default()).at_likelihoods(x).unwrap();
            let odds = |x: f64| x / (1.0 - x);
            close(orpo.loss, (1.0 + odds(x2) / odds(x1)).ln(), 1e-9);
        }
    }

    #[test]
    fn derivatives_are_those_of_the_loss() {
        const STEP: f64 = 1e-6;
        for &name in Objective::NAMES {
            let objective = Objective::by_name(name).unwrap();
            let loss = |x| objective.at_likelihoods(x).unwrap().loss;
            for x in grid().step_by(7) {
                let point = objective.at_likelihoods(x).unwrap();
                for side in 0..2 {
                    let moved = |by: f64| {
                        let mut x = x;
                        x[side] += by;
                        x
                    };
                    let slope = (loss(moved(-STEP)) - loss(moved(STEP))) / (2.0 * STEP);
                    let error = (slope - point.descent[side]).abs();
                    assert!(error <= 1e-5 * slope.abs() + 1e-6, "{name} {x:?} {side}: {slope} {point:?}");
                }
            }
        }
    }

    /// The paper's three cases of Figure 1.
    #[test]
    fn the_marked_cases() {
        let (bt, asft) =
            (Objective::from(Dpo { beta: 1.0, ..Dpo::default() }), Objective::from(Asft::default()));
        for (x, by_bt, by_asft) in [
            ([0.05, 0.95], [19.0, -1.0], [20.0, -20.0]),
            ([0.95, 0.95], [10.0 / 19.0, -10.0 / 19.0], [20.0 / 19.0, -20.0]),
            ([0.5, 0.05], [2.0 / 11.0, -20.0 / 11.0], [2.0, -20.0 / 19.0]),
            ([0.05, 0.05], [10.0, -10.0], [20.0, -20.0 / 19.0]),
        ] {
            for (objective, want) in [(&bt, by_bt), (&asft, by_asft)] {
                let got = objective.at_likelihoods(x).unwrap().descent;
                close(got[0], want[0], 1e-8);
                close(got[1], want[1], 1e-8);
            }
        }
    }

    #[test]
    fn a_flow_is_the_exact_one_where_that_is_known() {
        // Under ASFT x1 flows by itself: dx1/dt = 1/x1, so x1² = start² + 2t.
        let asft = Objective::from(Asft::default());
        let flow = Flow { time: 0.3, goal: 0.5, border: 1e-3 };
        let trajectory = asft.follow([0.2, 0.6], flow).unwrap();
        let end = trajectory.points.last().unwrap();
        close(end[0], (0.04f64 + 0.6).sqrt(), 1e-3);
        // (1 - x2)² = 0.4² + 2t likewise.
        close(1.0 - end[1], (0.16f64 + 0.6).sqrt(), 1e-3);
        let goal = trajectory.time_to_goal.unwrap();
        let margin = |t: f64| (0.04 + 2.0 * t).sqrt() - 1.0 + (0.16 + 2.0 * t).sqrt();
        assert!((margin(goal) - 0.5).abs() < 0.03, "{goal}");
        assert!(trajectory.length >= (end[0] - 0.2f64).hypot(end[1] - 0.6) - 1e-12);
        for start in [[0.0, 0.5], [0.5, 1.0], [f64::NAN, 0.5]] {
            assert!(asft.follow(start, flow).is_err() && asft.at_likelihoods(start).is_err());
        }
    }
}
