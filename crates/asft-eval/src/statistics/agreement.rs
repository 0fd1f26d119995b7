//! How far two judges agree on the same items. Undefined values are `None`, never 0.

/// Pearson's correlation.
#[must_use]
pub fn pearson(pairs: &[(f64, f64)]) -> Option<f64> {
    let moments = Moments::of(pairs)?;
    let scale = (moments.xx * moments.yy).sqrt();
    (scale > 0.0).then(|| moments.xy / scale)
}

/// Spearman's correlation, equal values having their average rank.
#[must_use]
pub fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    let (one, two): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
    let ranks: Vec<_> = average_ranks(&one).into_iter().zip(average_ranks(&two)).collect();
    pearson(&ranks)
}

fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|one, two| values[*one].total_cmp(&values[*two]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for group in order.chunk_by(|one, two| values[*one] == values[*two]) {
        let rank = start as f64 + (group.len() + 1) as f64 / 2.0;
        group.iter().for_each(|index| ranks[*index] = rank);
        start += group.len();
    }
    ranks
}

/// Kendall's tau-b.
#[must_use]
pub fn kendall_tau_b(pairs: &[(f64, f64)]) -> Option<f64> {
    let (mut balance, mut untied_x, mut untied_y) = (0i64, 0i64, 0i64);
    for (index, one) in pairs.iter().enumerate() {
        for two in &pairs[index + 1..] {
            let x = one.0.partial_cmp(&two.0)? as i64;
            let y = one.1.partial_cmp(&two.1)? as i64;
            balance += x * y;
            untied_x += x.abs();
            untied_y += y.abs();
        }
    }
    let scale = (untied_x as f64 * untied_y as f64).sqrt();
    (scale > 0.0).then(|| balance as f64 / scale)
}

/// How much it matters that two judges chose different levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disagreement {
    /// All the same.
    Nominal,
    /// By the square of the distance.
    Quadratic,
}

/// Cohen's kappa over levels 0 to `levels` − 1.
///
/// # Panics
/// If a level is not below `levels`.
#[must_use]
pub fn kappa(pairs: &[(usize, usize)], levels: usize, disagreement: Disagreement) -> Option<f64> {
    let n = pairs.len() as f64;
    let (mut one, mut two) = (vec![0.0; levels], vec![0.0; levels]);
    let weight = |i: usize, j: usize| match disagreement {
        Disagreement::Nominal => f64::from(u8::from(i != j)),
        Disagreement::Quadratic => (i.abs_diff(j) as f64 / (levels - 1) as f64).powi(2),
    };
    let mut observed = 0.0;
    for &(i, j) in pairs {
        one[i] += 1.0;
        two[j] += 1.0;
        observed += weight(i, j);
    }
    let mut expected = 0.0;
    for (i, in_one) in one.iter().enumerate() {
        for (j, in_two) in two.iter().enumerate() {
            expected += weight(i, j) * in_one * in_two;
        }
    }
    (expected > 0.0).then(|| 1.0 - observed * n / expected)
}

/// Slope and intercept of y = slope·x + intercept by least squares.
#[must_use]
pub fn least_squares(pairs: &[(f64, f64)]) -> Option<(f64, f64)> {
    let moments = Moments::of(pairs)?;
    (moments.xx > 0.0).then(|| {
        let slope = moments.xy / moments.xx;
        (slope, moments.mean_y - slope * moments.mean_x)
    })
}

/// Sums of products of deviations from the means.
struct Moments {
    mean_x: f64,
    mean_y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
}

impl Moments {
    fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        if pairs.is_empty() {
            return None;
        }
        let n = pairs.len() as f64;
        let mean_x = pairs.iter().map(|(x, _)| x).sum::<f64>() / n;
        let mean_y = pairs.iter().map(|(_, y)| y).sum::<f64>() / n;
        let mut moments = Self { mean_x, mean_y, xx: 0.0, yy: 0.0, xy: 0.0 };
        for (x, y) in pairs {
            let (x, y) = (x - mean_x, y - mean_y);
            moments.xx += x * x;
            moments.yy += y * y;
            moments.xy += x * y;
        }
        Some(moments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value - expected).abs() < 1e-12)
    }

    #[test]
    fn correlations_by_hand() {
        // Ranks of x: 1, 2.5, 2.5, 4; of y: 2, 1, 3, 4.
        let pairs = [(1.0, 20.0), (2.0, 10.0), (2.0, 30.0), (9.0, 40.0)];
        assert!(close(spearman(&pairs), 3.0 / (4.5f64 * 5.0).sqrt()));
        // Of six pairs of items four are in order, one against it and one tied in x.
        assert!(close(kendall_tau_b(&pairs), 3.0 / (5.0f64 * 6.0).sqrt()));
        let line = [(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)];
        assert!(close(pearson(&line), 1.0));
        assert!(
            least_squares(&line)
                .is_some_and(|(slope, intercept)| close(Some(slope), 2.0) && close(Some(intercept), 3.0))
        );
    }

    #[test]
    fn kappa_by_hand() {
        let pairs = [(0, 0), (0, 1), (1, 1), (2, 2), (2, 0)];
        // Observed disagreement 2/5; expected 1 - (2·2 + 1·2 + 2·1)/25 = 17/25.
        assert!(close(kappa(&pairs, 3, Disagreement::Nominal), 1.0 - (2.0 / 5.0) / (17.0 / 25.0)));
        // Weights 1/4 for neighbours and 1 for the ends: observed (1/4 + 1)/5,
        // expected (2·2/4 + 2·1 + 1·2/4 + 1·1/4 + 2·2 + 2·2/4)/25.
        assert!(close(kappa(&pairs, 3, Disagreement::Quadratic), 1.0 - 0.25 / (8.75 / 25.0)));
    }

    #[test]
    fn what_is_undefined_is_no_number() {
        let flat = [(1.0, 2.0), (1.0, 3.0)];
        assert_eq!((pearson(&flat), spearman(&flat), kendall_tau_b(&flat)), (None, None, None));
        assert_eq!(least_squares(&flat), None);
        assert_eq!(pearson(&[]), None);
        assert_eq!(kappa(&[(1, 1), (1, 1)], 3, Disagreement::Nominal), None);
    }
}
