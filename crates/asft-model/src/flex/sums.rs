//! See [`crate::LlamaBackend::add_rows`] and [`crate::LlamaBackend::sum_of_squares`].

use burn::{
    backend::Flex,
    tensor::{Int, Tensor},
};
use rayon::prelude::*;

use super::{contiguous, values};
use crate::{
    host::{TASK, simd},
    ops::{primitive, tensor},
};

/// In place where nobody else holds `sum`.
pub fn add_rows(
    sum: Tensor<Flex, 2>,
    indices: Tensor<Flex, 1, Int>,
    rows: Tensor<Flex, 2>,
) -> Tensor<Flex, 2> {
    let ([length, width], [count, _]) = (sum.dims(), rows.dims());
    assert_eq!((rows.dims(), indices.dims()), ([count, width], [count]), "rows to add to {length} x {width}");
    let [mut sum, rows] = [sum, rows].map(|t| contiguous(primitive(t)));
    let indices = indices.into_primitive().to_contiguous();
    let sums = sum.storage_mut::<f32>();
    for (&index, row) in indices.storage::<i32>()[..count].iter().zip(values(&rows).chunks_exact(width)) {
        let start = index as usize * width;
        simd::vectorized(
            #[inline(always)]
            || simd::add(&mut sums[start..start + width], row),
        );
    }
    tensor(sum)
}

/// Squares are summed in f32 over short rows and the rows' sums in f64, in the order in which they lie.
pub fn sum_of_squares(tensor: Tensor<Flex, 1>) -> f64 {
    const ROW: usize = 512;
    let tensor = contiguous(primitive(tensor));
    let tasks = values(&tensor).par_chunks(TASK).map(|task| {
        simd::vectorized(
            #[inline(always)]
            || task.chunks(ROW).map(|row| f64::from(simd::dot(row, row))).sum::<f64>(),
        )
    });
    tasks.collect::<Vec<f64>>().into_iter().sum()
}
