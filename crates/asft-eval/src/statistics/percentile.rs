//! Percentiles of draws, some of which may be infinite.

/// The value below which a share `q` of the values lies, linear between order statistics at position q·(n − 1);
/// an infinite neighbour that takes part is the result. `None` without values.
///
/// # Panics
/// If a value is no number or `q` is not from 0 to 1.
#[must_use]
pub fn percentile(values: &[f64], q: f64) -> Option<f64> {
    assert!((0.0..=1.0).contains(&q), "share {q}");
    assert!(values.iter().all(|value| !value.is_nan()), "values are numbers");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = q * sorted.len().checked_sub(1)? as f64;
    let (below, share) = (position.floor() as usize, position.fract());
    let low = sorted[below];
    if share == 0.0 || low.is_infinite() {
        return Some(low);
    }
    let high = sorted[below + 1];
    Some(if high.is_infinite() { high } else { low + (high - low) * share })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_between_order_statistics() {
        assert_eq!(percentile(&[4.0, 1.0, 3.0, 2.0], 0.5), Some(2.5));
        assert_eq!(percentile(&[4.0, 1.0, 3.0, 2.0], 1.0), Some(4.0));
        assert_eq!(percentile(&[7.0], 0.025), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn infinite_neighbours_count_where_they_take_part() {
        let values = [f64::NEG_INFINITY, 1.0, 2.0, f64::INFINITY];
        assert_eq!(percentile(&values, 0.1), Some(f64::NEG_INFINITY));
        assert_eq!(percentile(&values, 0.5), Some(1.5));
        assert_eq!(percentile(&values, 2.0 / 3.0), Some(2.0));
        assert_eq!(percentile(&values, 0.9), Some(f64::INFINITY));
        assert_eq!(percentile(&[f64::INFINITY; 3], 0.3), Some(f64::INFINITY));
    }
}
