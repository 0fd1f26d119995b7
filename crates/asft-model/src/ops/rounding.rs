//! Rounding to bf16 by chance.
//!
//! bf16 has 8 bits of precision, so an update below 1/512 of a weight is lost when the sum is rounded to the
//! nearest. Rounded up with the probability that is the value's place between its two neighbours, the sum is
//! right on average, and steps too small for one rounding add up over many (arXiv 2010.06192).

use half::bf16;

/// Values that share one draw of 64 random bits.
const GROUP: usize = 4;
/// Values for which [`chances`] draws at a time.
pub const STRETCH: usize = 64;

/// Each value rounded to one of its two neighbours, the mean over all seeds being the value itself.
///
/// Bits depend on the seed and on a value's place alone: `first` is the place of the first value and a
/// multiple of four, so that stretches may be rounded apart from each other.
pub fn round_by_chance(values: &[f32], out: &mut [bf16], seed: u64, first: usize) {
    for (stretch, (values, out)) in values.chunks(STRETCH).zip(out.chunks_mut(STRETCH)).enumerate() {
        let chances = chances(seed, first + stretch * STRETCH);
        for ((value, out), chance) in values.iter().zip(out).zip(chances) {
            *out = rounded(*value, chance);
        }
    }
}

/// What [`rounded`] takes for the values from place `first` on, a multiple of four.
#[inline(always)]
pub fn chances(seed: u64, first: usize) -> [u16; STRETCH] {
    let mut draws = [0; STRETCH / GROUP];
    for (group, draw) in draws.iter_mut().enumerate() {
        *draw = mix(seed.wrapping_add(((first / GROUP + group) as u64).wrapping_mul(GOLDEN)));
    }
    std::array::from_fn(|place| (draws[place / GROUP] >> (16 * (place % GROUP))) as u16)
}

/// Adds `chance` below the last bit that is kept, whose carry is the rounding up, away from 0. What is no number or not
/// finite stays so.
#[inline(always)]
pub fn rounded(value: f32, chance: u16) -> bf16 {
    const QUIET: u32 = 1 << 22;
    let bits = value.to_bits();
    let as_it_is = if value.is_nan() { bits | QUIET } else { bits };
    let kept = if value.is_finite() { bits.wrapping_add(u32::from(chance)) } else { as_it_is };
    bf16::from_bits((kept >> 16) as u16)
}

/// 2⁶⁴ over the golden ratio: successive multiples are spread evenly.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea, Flood 2014), a bijection that looks random.
#[inline(always)]
pub(crate) fn mix(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of both signs and many sizes, among them exact ones and ones that round across a power of two.
    const VALUES: [f32; 9] = [1.0, 1.001, -1.001, 0.3333333, -1e-20, 1.999, 65_535.0, 0.0, 3.1e-3];

    fn round(values: &[f32], seed: u64) -> Vec<bf16> {
        let mut out = vec![bf16::ZERO; values.len()];
        round_by_chance(values, &mut out, seed, 0);
        out
    }

    #[test]
    fn the_mean_is_the_value_and_neighbours_are_all_there_is() {
        const DRAWS: u64 = 20_000;
        let mut sums = [0.0; VALUES.len()];
        for seed in 0..DRAWS {
            for ((sum, rounded), value) in sums.iter_mut().zip(round(&VALUES, mix(seed))).zip(VALUES) {
                let distance = (rounded.to_f32() - value).abs();
                assert!(distance < value.abs() / 128.0 || distance == 0.0, "{value} became {rounded}");
                *sum += rounded.to_f64();
            }
        }
        for (sum, value) in sums.iter().zip(VALUES) {
            let value = f64::from(value);
            // Five standard errors of a mean whose draws are at most one spacing apart.
            let allowed = 5.0 * value.abs() / 128.0 / 2.0 / (DRAWS as f64).sqrt();
            assert!((sum / DRAWS as f64 - value).abs() <= allowed, "{value}: {}", sum / DRAWS as f64);
        }
    }

    #[test]
    fn stretches_are_rounded_as_the_whole_is() {
        let values: Vec<f32> = (0..103).map(|i| 0.37 * i as f32 - 11.0).collect();
        let whole = round(&values, 7);
        let mut parts = vec![bf16::ZERO; values.len()];
        for start in (0..values.len()).step_by(20) {
            let end = values.len().min(start + 20);
            round_by_chance(&values[start..end], &mut parts[start..end], 7, start);
        }
        assert_eq!(whole, parts);
        assert_ne!(whole, round(&values, 8), "other seed");
    }

    #[test]
    fn what_is_no_number_stays_so() {
        let rounded = round(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], u64::MAX);
        assert!(rounded[0].is_nan());
        assert_eq!(rounded[1..], [bf16::INFINITY, bf16::NEG_INFINITY]);
    }
}
