//! An exact sum: the same bits whatever the order, the grouping or the number of processes.

use serde::{Deserialize, Serialize};

/// Sum of `f64` values kept without rounding, as parts that do not overlap (Shewchuk 1997, "Adaptive
/// precision floating-point arithmetic", Grow-Expansion). [`ExactSum::value`] rounds once.
///
/// A mean logged by a resumed or a data-parallel run must equal the one of an uninterrupted single process;
/// with plain additions it would depend on how pairs were grouped.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExactSum {
    /// Non-overlapping parts in increasing magnitude.
    parts: Vec<f64>,
}

impl ExactSum {
    /// Adds a finite value.
    pub fn add(&mut self, value: f64) {
        let mut carry = value;
        let mut kept = 0;
        for i in 0..self.parts.len() {
            let (large, small) = if carry.abs() < self.parts[i].abs() {
                (self.parts[i], carry)
            } else {
                (carry, self.parts[i])
            };
            carry = large + small;
            let error = small - (carry - large);
            if error != 0.0 {
                self.parts[kept] = error;
                kept += 1;
            }
        }
        self.parts.truncate(kept);
        self.parts.push(carry);
    }

    /// Adds another sum, exactly.
    pub fn merge(&mut self, other: &Self) {
        for &part in &other.parts {
            self.add(part);
        }
    }

    /// The sum, rounded once to the nearest `f64`.
    #[must_use]
    pub fn value(&self) -> f64 {
        let mut rest = self.parts.iter().rev().copied();
        let mut sum = rest.next().unwrap_or(0.0);
        while let Some(part) = rest.next() {
            let before = sum;
            sum = before + part;
            let error = part - (sum - before);
            if error != 0.0 {
                // A tie was rounded to even; the next part says to which side it truly lies.
                if rest.next().is_some_and(|next| next != 0.0 && next.signum() == error.signum()) {
                    let doubled = error * 2.0;
                    let moved = sum + doubled;
                    if moved - sum == doubled {
                        sum = moved;
                    }
                }
                break;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        values.iter().for_each(|&value| sum.add(value));
        sum.value()
    }

    #[test]
    fn keeps_what_plain_additions_lose() {
        let tiny = 2f64.powi(-53);
        for (values, want) in [
            (vec![], 0.0),
            (vec![1e100, 1.0, -1e100], 1.0),
            (vec![0.1; 10], 1.0),
            // exactly half an ulp above 1 rounds to even; anything more rounds up
            (vec![1.0, tiny], 1.0),
            (vec![1.0, tiny, 1e-30], 1.0 + f64::EPSILON),
            (vec![1.0, tiny, -1e-30], 1.0),
        ] {
            assert_eq!(sum(&values), want, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn order_and_grouping_do_not_change_a_bit(
            values in prop::collection::vec(-1e6f64..1e6, 1..40),
            seed in any::<u64>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let straight = sum(&values);
            let mut shuffled = values.clone();
            shuffled.sort_by_key(|value| value.to_bits().wrapping_mul(seed | 1));
            let (left, right) = shuffled.split_at(cut.index(shuffled.len()));
            let (mut a, mut b) = (ExactSum::default(), ExactSum::default());
            left.iter().for_each(|&value| a.add(value));
            right.iter().for_each(|&value| b.add(value));
            b.merge(&a);
            prop_assert_eq!(straight.to_bits(), b.value().to_bits());
        }
    }
}
