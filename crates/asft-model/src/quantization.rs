//! Frozen matrices kept as short codes (QLoRA, arXiv 2305.14314).
//!
//! A matrix is cut into blocks of 64 values in row-major order. A block is scaled by its largest magnitude, and each
//! value becomes the number of the nearest entry of a code book between -1 and 1. Scales are f32, so a value takes its
//! code and half a bit; scales are not quantised themselves.

use burn::{
    module::Module,
    tensor::{DType, Int, Tensor, TensorData, backend::Backend},
};
use serde::{Deserialize, Serialize};

/// Values that share a scale.
pub const BLOCK: usize = 64;

/// A code of matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantization {
    /// 255 evenly spaced values in 8 bits.
    Int8,
    /// The 16 values that are equally likely in a normal distribution, 0 among them, in 4 bits.
    Nf4,
}

/// `NormalFloat4` of arXiv 2305.14314, appendix E.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

impl Quantization {
    /// As a configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Nf4 => "nf4",
        }
    }

    /// Bits of a code.
    pub fn bits(self) -> usize {
        match self {
            Self::Int8 => 8,
            Self::Nf4 => 4,
        }
    }

    /// Bytes of a matrix of `values` numbers, scales included.
    pub fn bytes(self, values: usize) -> usize {
        let blocks = values.div_ceil(BLOCK);
        blocks * (BLOCK * self.bits() / 8 + size_of::<f32>())
    }

    /// The values of a block whose scale is 1, rising.
    fn code_book(self) -> Vec<f32> {
        match self {
            Self::Int8 => (-127..=127i16).map(|code| f32::from(code) / 127.0).collect(),
            Self::Nf4 => NF4.to_vec(),
        }
    }
}

/// A matrix as codes. Nothing in it is a parameter.
#[derive(Module, Debug)]
pub struct Quantized<B: Backend> {
    /// Codes in 32-bit words, the first in the lowest bits; whole blocks.
    pub codes: Tensor<B, 1, Int>,
    /// Scale of each block, f32.
    pub scales: Tensor<B, 1>,
    /// What each code stands for, f32.
    pub code_book: Tensor<B, 1>,
    /// Bits of a code.
    pub bits: usize,
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub columns: usize,
}

impl<B: Backend> Quantized<B> {
    /// Codes of `values` `[rows, columns]`, row-major and finite.
    pub fn new(
        quantization: Quantization,
        values: &[f32],
        [rows, columns]: [usize; 2],
        device: &B::Device,
    ) -> Self {
        assert_eq!(values.len(), rows * columns, "values of a matrix");
        let book = quantization.code_book();
        // A value's code is the number of bounds below it.
        let bounds: Vec<f32> = book.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        let bits = quantization.bits();
        let (mut scales, mut words) = (vec![], vec![]);
        for block in values.chunks(BLOCK) {
            let scale = block.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
            scales.push(scale);
            let reciprocal = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let mut codes = [0u32; BLOCK];
            for (code, value) in codes.iter_mut().zip(block) {
                *code = bounds.partition_point(|&bound| bound < value * reciprocal) as u32;
            }
            for codes in codes.chunks(32 / bits) {
                let word = codes.iter().rev().fold(0u32, |word, code| (word << bits) | code);
                words.push(word.cast_signed());
            }
        }
        let [word_count, blocks, entries] = [words.len(), scales.len(), book.len()];
        Self {
            codes: Tensor::from_data(TensorData::new(words, [word_count]), (device, DType::I32)),
            scales: Tensor::from_data(TensorData::new(scales, [blocks]), (device, DType::F32)),
            code_book: Tensor::from_data(TensorData::new(book, [entries]), (device, DType::F32)),
            bits,
            rows,
            columns,
        }
    }

    /// `[rows, columns]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }
}
