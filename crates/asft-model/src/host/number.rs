//! Types in which numbers lie in memory.

use half::{bf16, vec::HalfBitsVecExt};
use rayon::prelude::*;

use super::{TASK, simd};
use crate::ops::rounding;

/// A type in which numbers lie; they are worked on in f32.
pub trait Number: Copy + Send + Sync + 'static {
    /// So many zeros, in memory that is not touched before it is used.
    fn zeros(length: usize) -> Vec<Self>;

    /// The number in f32.
    fn get(self) -> f32;

    /// All of them in f32; those that are not are put into `buffer`.
    fn wide<'a>(values: &'a [Self], buffer: &'a mut Vec<f32>) -> &'a [f32];

    /// The nearest to each.
    fn narrow(values: Vec<f32>) -> Vec<Self>;

    /// The nearest that there is, of two equally near ones the even one.
    fn put(value: f32) -> Self;

    /// [`rounding::rounded`] where something is lost at all.
    fn put_by_chance(value: f32, chance: u16) -> Self;

    /// [`rounding::chances`] of a stretch's places where something may be lost, else whatever is had for nothing.
    fn chances(seed: u64, first: usize) -> [u16; rounding::STRETCH];
}

impl Number for f32 {
    fn zeros(length: usize) -> Vec<Self> {
        vec![0.0; length]
    }

    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn wide<'a>(values: &'a [Self], _: &'a mut Vec<f32>) -> &'a [f32] {
        values
    }

    fn narrow(values: Vec<f32>) -> Vec<Self> {
        values
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
    fn zeros(length: usize) -> Vec<Self> {
        vec![0_u16; length].reinterpret_into()
    }

    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn wide<'a>(values: &'a [Self], buffer: &'a mut Vec<f32>) -> &'a [f32] {
        buffer.clear();
        buffer.extend(values.iter().map(|value| value.get()));
        buffer
    }

    fn narrow(values: Vec<f32>) -> Vec<Self> {
        cast(&values)
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

/// The same numbers in another type, each the nearest that there is.
pub fn cast<A: Number, B: Number>(values: &[A]) -> Vec<B> {
    let mut out = B::zeros(values.len());
    out.par_chunks_mut(TASK).zip(values.par_chunks(TASK)).for_each(|(out, values)| {
        simd::vectorized(
            #[inline(always)]
            || {
                for (out, value) in out.iter_mut().zip(values) {
                    *out = B::put(value.get());
                }
            },
        );
    });
    out
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
