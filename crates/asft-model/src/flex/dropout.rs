//! See [`crate::LlamaBackend::dropout`].

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{Element, by_type, contiguous};
use crate::{
    host::{TASK, simd},
    ops::{
        Dropout,
        rounding::{GOLDEN, mix},
    },
};

/// Elements that share one draw of 64 random bits, of which each takes 16: the rate is exact to 1 / 65,536.
const GROUP: usize = 4;
const DRAWS: f64 = 65_536.0;

/// In place where nobody else holds `x`. An element's draw depends on the seed and its place alone.
pub fn forward(x: FlexTensor, dropout: Dropout) -> FlexTensor {
    let mut x = contiguous(x);
    by_type!(x.dtype(), T => drop_out::<T>(x.storage_mut(), dropout));
    x
}

fn drop_out<T: Element>(x: &mut [T], Dropout { rate, seed }: Dropout) {
    let kept = ((1.0 - rate) * DRAWS).round().max(1.0);
    let (bound, scale) = (kept as u64, (DRAWS / kept) as f32);
    x.par_chunks_mut(TASK).enumerate().for_each(|(task, x)| {
        simd::vectorized(
            #[inline(always)]
            || {
                for (group, x) in x.chunks_mut(GROUP).enumerate() {
                    let place = (task * (TASK / GROUP) + group) as u64;
                    let bits = mix(seed.wrapping_add(place.wrapping_mul(GOLDEN)));
                    for (lane, x) in x.iter_mut().enumerate() {
                        let draw = (bits >> (16 * lane)) & 0xffff;
                        *x = T::put(x.get() * if draw < bound { scale } else { 0.0 });
                    }
                }
            },
        );
    });
}
