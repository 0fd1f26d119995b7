//! Types in which numbers lie in memory.

use half::bf16;

use crate::ops::rounding;

/// A type in which numbers lie; they are worked on in f32.
pub trait Number: Copy + Send + Sync + 'static {
    /// The number in f32.
    fn get(self) -> f32;

    /// The nearest that there is, of two equally near ones the even one.
    fn put(value: f32) -> Self;

    /// [`rounding::rounded`] where something is lost at all.
    fn put_by_chance(value: f32, chance: u16) -> Self;

    /// [`rounding::chances`] of a stretch's places where something may be lost, else whatever is had for nothing.
    fn chances(seed: u64, first: usize) -> [u16; rounding::STRETCH];
}

impl Number for f32 {
    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn put(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn put_by_chance(value: f32, _: u16) -> Self {
        value
    }

    #[inline(always)]
    fn chances(_: u64, _: usize) -> [u16; rounding::STRETCH] {
        [0; rounding::STRETCH]
    }
}

/// Written without branches, so that loops over it are compiled to vectors.
impl Number for bf16 {
    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn put(value: f32) -> Self {
        const QUIET: u32 = 1 << 22;
        let bits = value.to_bits();
        let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
        let kept = if value.is_nan() { bits | QUIET } else { nearest };
        Self::from_bits((kept >> 16) as u16)
    }

    #[inline(always)]
    fn put_by_chance(value: f32, chance: u16) -> Self {
        rounding::rounded(value, chance)
    }

    #[inline(always)]
    fn chances(seed: u64, first: usize) -> [u16; rounding::STRETCH] {
        rounding::chances(seed, first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_rounded_as_the_half_crate_does() {
        let special =
            [0, 1 << 31, 0x7f80_0000, 0xff80_0000, 0x7f80_0001, 0xffff_ffff, 0x7f7f_ffff, 1, 0x8000];
        let many = (0..200_000u32).map(|i| i.wrapping_mul(0x9e37_79b9));
        for bits in special.into_iter().chain(many) {
            let value = f32::from_bits(bits);
            let (got, expected) = (<bf16 as Number>::put(value), bf16::from_f32(value));
            assert_eq!(got.to_bits(), expected.to_bits(), "{bits:x}");
            assert_eq!(got.get().to_bits(), got.to_f32().to_bits(), "{bits:x}");
        }
    }
}
