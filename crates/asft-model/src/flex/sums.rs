//! See [`crate::LlamaBackend::add_rows`], [`crate::LlamaBackend::add_values`] and [`crate::LlamaBackend::sum_of_squares`].

use burn::{
    backend::Flex,
    tensor::{Int, Tensor},
};
use rayon::prelude::*;

use super::{by_type, contiguous, values};
use crate::{
    host::{TASK, simd},
    ops::{primitive, tensor},
};

/// In place where nobody else holds `sum`, which is f32.
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
    by_type!(rows.dtype(), T => {
        let rows = values::<T>(&rows).chunks_exact(width);
        for (&index, row) in indices.storage::<i32>()[..count].iter().zip(rows) {
            let start = index as usize * width;
            simd::vectorized(
                #[inline(always)]
                || simd::add(&mut sums[start..start + width], row),
            );
        }
    });
    tensor(sum)
}

/// In place where nobody else holds `sum`, which is f32.
pub fn add_values(sum: Tensor<Flex, 1>, added: Tensor<Flex, 1>) -> Tensor<Flex, 1> {
    assert_eq!(sum.dims(), added.dims(), "values to add");
    let [mut sum, added] = [sum, added].map(|t| contiguous(primitive(t)));
    by_type!(added.dtype(), T => {
        let tasks = sum.storage_mut::<f32>().par_chunks_mut(TASK);
        tasks.zip(values::<T>(&added).par_chunks(TASK)).for_each(|(sum, values)| {
            simd::vectorized(
                #[inline(always)]
                || simd::add(sum, values),
            );
        });
    });
    tensor(sum)
}

/// Squares are summed in f32 over short rows and the rows' sums in f64, in the order in which they lie.
pub fn sum_of_squares(tensor: Tensor<Flex, 1>) -> f64 {
    const ROW: usize = 512;
    let tensor = contiguous(primitive(tensor));
    let tasks = values::<f32>(&tensor).par_chunks(TASK).map(|task| {
        simd::vectorized(
            #[inline(always)]
            || task.chunks(ROW).map(|row| f64::from(simd::dot(row, row))).sum::<f64>(),
        )
    });
    tasks.collect::<Vec<f64>>().into_iter().sum()
}
