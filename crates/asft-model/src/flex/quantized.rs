//! See [`crate::LlamaBackend::expand_codes`].

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::DType,
};
use rayon::prelude::*;

use super::{Element, by_type, contiguous, from_values, values};
use crate::{
    ops::primitive,
    quantization::{BLOCK, Quantized},
};

/// Blocks of a task.
const BLOCKS: usize = 256;

/// In one pass over the codes.
pub fn expand_codes(matrix: &Quantized<Flex>, dtype: DType) -> FlexTensor {
    by_type!(dtype, T => from_values(expand::<T>(matrix), matrix.dims()))
}

fn expand<T: Element>(matrix: &Quantized<Flex>) -> Vec<T> {
    let codes = matrix.codes.clone().into_primitive().to_contiguous();
    let [scales, book] = [&matrix.scales, &matrix.code_book].map(|t| contiguous(primitive(t.clone())));
    let (codes, scales, book) = (codes.storage::<i32>(), values::<f32>(&scales), values::<f32>(&book));
    let (bits, words) = (matrix.bits, BLOCK * matrix.bits / 32);
    let mask = (1u32 << bits) - 1;
    let [rows, columns] = matrix.dims();
    let mut out = T::zeros(rows * columns);
    let inputs = codes.par_chunks(words * BLOCKS).zip(scales.par_chunks(BLOCKS));
    out.par_chunks_mut(BLOCK * BLOCKS).zip(inputs).for_each(|(out, (codes, scales))| {
        for ((out, codes), scale) in out.chunks_mut(BLOCK).zip(codes.chunks(words)).zip(scales) {
            for (out, word) in out.chunks_mut(32 / bits).zip(codes) {
                let word = word.cast_unsigned();
                for (place, out) in out.iter_mut().enumerate() {
                    *out = T::put(book[((word >> (place * bits)) & mask) as usize] * scale);
                }
            }
        }
    });
    out
}
