//! Logistic regression with a penalty on all weights, by Newton's method.

/// A row: its features, the share of wins, and how often it counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) features: Vec<f64>,
    pub(super) won: f64,
    pub(super) count: f64,
}

/// Weights that minimise ½|w|² + Σ count·log-loss, where a share of wins is that of rows won and lost.
pub(super) fn fit(rows: &[Row], width: usize) -> Vec<f64> {
    let mut weights = vec![0.0; width];
    let mut loss = objective(rows, &weights);
    for _ in 0..100 {
        let step = newton_step(rows, &weights);
        let mut length = 1.0;
        loop {
            let moved: Vec<f64> =
                weights.iter().zip(&step).map(|(weight, step)| weight - length * step).collect();
            let moved_loss = objective(rows, &moved);
            if moved_loss <= loss {
                let size = step.iter().map(|step| step.abs()).fold(0.0, f64::max);
                (weights, loss) = (moved, moved_loss);
                if size < 1e-12 {
                    return weights;
                }
                break;
            }
            length /= 2.0;
            // No smaller loss is to be had in doubles.
            if length < 1e-6 {
                return weights;
            }
        }
    }
    weights
}

fn logit(row: &Row, weights: &[f64]) -> f64 {
    row.features.iter().zip(weights).map(|(feature, weight)| feature * weight).sum()
}

fn objective(rows: &[Row], weights: &[f64]) -> f64 {
    let penalty = weights.iter().map(|weight| weight * weight).sum::<f64>() / 2.0;
    let loss = |row: &Row| {
        let z = logit(row, weights);
        row.count * (z.max(0.0) + (-z.abs()).exp().ln_1p() - row.won * z)
    };
    penalty + rows.iter().map(loss).sum::<f64>()
}

/// The inverse Hessian times the gradient.
fn newton_step(rows: &[Row], weights: &[f64]) -> Vec<f64> {
    let width = weights.len();
    let mut gradient = weights.to_vec();
    let mut hessian = vec![vec![0.0; width]; width];
    (0..width).for_each(|i| hessian[i][i] = 1.0);
    for row in rows {
        let p = 1.0 / (1.0 + (-logit(row, weights)).exp());
        let (slope, curvature) = (row.count * (p - row.won), row.count * p * (1.0 - p));
        for (i, one) in row.features.iter().enumerate().filter(|(_, one)| **one != 0.0) {
            gradient[i] += slope * one;
            for (j, two) in row.features.iter().enumerate().take(i + 1) {
                hessian[i][j] += curvature * one * two;
            }
        }
    }
    solve(hessian, gradient)
}

/// Solves for a positive definite matrix, of which the lower triangle is read, by Cholesky's method.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let rest = matrix[i][j] - known;
            matrix[i][j] = if i == j { rest.sqrt() } else { rest / matrix[j][j] };
        }
    }
    for i in 0..n {
        let known: f64 = (0..i).map(|k| matrix[i][k] * right[k]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| matrix[k][i] * right[k]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_vanishes_at_the_fit() {
        let row = |features: &[f64], won, count| Row { features: features.to_vec(), won, count };
        let rows = [
            row(&[1.0, -1.0, 0.5], 1.0, 3.0),
            row(&[1.0, -1.0, -2.0], 0.0, 1.0),
            row(&[-1.0, 0.0, 1.5], 0.5, 2.0),
        ];
        let weights = fit(&rows, 3);
        let step = newton_step(&rows, &weights);
        assert!(step.iter().all(|step| step.abs() < 1e-12), "{step:?}");
    }

    #[test]
    fn one_weight_by_hand() {
        // 0 = w + 1/(1 + exp(-w)) - 1 has the solution w = 0.401058...
        let weights = fit(&[Row { features: vec![1.0], won: 1.0, count: 1.0 }], 1);
        assert!((weights[0] - 1.0 / (1.0 + weights[0].exp())).abs() < 1e-12);
        assert!((weights[0] - 0.401_058).abs() < 1e-6);
    }

    #[test]
    fn systems_are_solved() {
        let solution = solve(vec![vec![4.0, 0.0], vec![2.0, 3.0]], vec![10.0, 8.0]);
        assert!((solution[0] - 1.75).abs() < 1e-12 && (solution[1] - 1.5).abs() < 1e-12);
    }
}
