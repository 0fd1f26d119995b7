//! Products of matrices that lie in larger buffers, through the crate that Flex itself multiplies with.
#![allow(unsafe_code)]

use burn::{backend::flex::FlexTensor, tensor::TensorMetadata};
use gemm::Parallelism;

use super::{contiguous, from_values, skinny, values};

/// A matrix in a buffer: element `(i, j)` lies at `i · row_stride + j · column_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` rows of `columns` elements, `stride` apart, from the start of `data`.
    pub fn new(data: &'a [f32], [rows, columns]: [usize; 2], stride: usize) -> Self {
        let matrix = Self { data, rows, columns, row_stride: stride, column_stride: 1 };
        assert!(matrix.end() <= data.len(), "{rows} rows of {columns} do not lie in {}", data.len());
        matrix
    }

    pub fn transpose(self) -> Self {
        let Self { data, rows, columns, row_stride, column_stride } = self;
        Self { data, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }

    /// One past the last element, counted from the start of the buffer.
    fn end(&self) -> usize {
        match self.rows == 0 || self.columns == 0 {
            true => 0,
            false => (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1,
        }
    }
}

/// What becomes of the destination's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    Replace,
    Add,
}

/// Writes `factor · lhs rhs` to the matrix that lies row by row, `stride` apart, at the start of `data`, or
/// adds it there.
pub fn product(
    data: &mut [f32],
    stride: usize,
    into: Into,
    factor: f32,
    lhs: Matrix<'_>,
    rhs: Matrix<'_>,
    parallelism: Parallelism,
) {
    let [m, n] = [lhs.rows, rhs.columns];
    assert_eq!(rhs.rows, lhs.columns, "inner dimensions of a product");
    assert!(n <= stride, "rows of a destination overlap");
    Matrix::new(data, [m, n], stride);
    // SAFETY: the destination was just seen to lie in `data`, which is borrowed alone; its rows do not overlap.
    unsafe { multiply(data.as_mut_ptr(), stride, into, factor, lhs, rhs, parallelism) }
}

/// [`product`] for a destination that need not be initialised where it is replaced.
///
/// # Safety
/// `lhs.rows` rows of `rhs.columns` elements, `stride` apart from `data` on, must be writable, and for
/// [`Into::Add`] initialised, and overlap neither each other nor the operands.
unsafe fn multiply(
    data: *mut f32,
    stride: usize,
    into: Into,
    factor: f32,
    lhs: Matrix<'_>,
    rhs: Matrix<'_>,
    parallelism: Parallelism,
) {
    // SAFETY: both operands lie within their buffers, since a `Matrix` cannot be made otherwise; the caller
    // answers for the destination.
    unsafe {
        gemm::gemm(
            lhs.rows,
            rhs.columns,
            lhs.columns,
            data,
            1,
            stride as isize,
            into == Into::Add,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// See [`crate::LlamaBackend::product`].
///
/// Flex's own product zeroes its output and copies it to another place before it multiplies, on one thread.
pub fn new_product(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
    let [lhs, rhs] = [lhs, rhs].map(Operand::new);
    let (lhs, rhs) = (lhs.matrix(), rhs.matrix());
    let [rows, columns] = [lhs.rows, rhs.columns];
    assert_eq!(rhs.rows, lhs.columns, "inner dimensions of a product");
    if lhs.columns == 0 {
        return from_values(vec![0.0; rows * columns], [rows, columns]);
    }
    if rows <= skinny::MOST_ROWS && lhs.column_stride == 1 && rhs.row_stride == 1 {
        // Operands are contiguous one way or the other, so these lie row by row.
        return from_values(skinny::product(lhs.data, rows, rhs.data, lhs.columns), [rows, columns]);
    }
    let mut out = Vec::with_capacity(rows * columns);
    // SAFETY: the buffer has room for the product, which is written whole before its length is set.
    unsafe {
        multiply(out.as_mut_ptr(), columns, Into::Replace, 1.0, lhs, rhs, Parallelism::Rayon(0));
        out.set_len(rows * columns);
    }
    from_values(out, [rows, columns])
}

/// See [`crate::LlamaBackend::add_product`]; in place where nobody else holds `sum`.
pub fn add_product(sum: FlexTensor, lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
    let mut sum = contiguous(sum);
    let columns = sum.shape()[1];
    let [lhs, rhs] = [lhs, rhs].map(Operand::new);
    let parallelism = Parallelism::Rayon(0);
    product(sum.storage_mut(), columns, Into::Add, 1.0, lhs.matrix(), rhs.matrix(), parallelism);
    sum
}

/// A contiguous tensor, or the transpose of one, which needs no copy.
struct Operand {
    rows: FlexTensor,
    transposed: bool,
}

impl Operand {
    fn new(tensor: FlexTensor) -> Self {
        let transposed = !tensor.is_contiguous() && tensor.transpose(0, 1).is_contiguous();
        let rows = if transposed { tensor.transpose(0, 1) } else { tensor };
        Self { rows: contiguous(rows), transposed }
    }

    fn matrix(&self) -> Matrix<'_> {
        let [rows, columns] = self.rows.shape().dims();
        let matrix = Matrix::new(values(&self.rows), [rows, columns], columns);
        if self.transposed { matrix.transpose() } else { matrix }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_matrices_in_larger_buffers() {
        // Two rows of three, and three of two, both in rows of four.
        let buffer: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let a = Matrix::new(&buffer, [2, 3], 4);
        let b = Matrix::new(&buffer[1..], [3, 2], 4);
        let mut out = vec![100.0; 6];
        let none = Parallelism::None;
        product(&mut out, 3, Into::Replace, 2.0, a, b, none);
        // a = [[0, 1, 2], [4, 5, 6]], b = [[1, 2], [5, 6], [9, 10]].
        assert_eq!(out, [46.0, 52.0, 100.0, 166.0, 196.0, 100.0]);
        product(&mut out, 3, Into::Add, 1.0, a, b, none);
        assert_eq!(out, [69.0, 78.0, 100.0, 249.0, 294.0, 100.0]);
        product(&mut out, 3, Into::Replace, 1.0, b.transpose(), a.transpose(), none);
        assert_eq!(out, [23.0, 83.0, 100.0, 26.0, 98.0, 100.0]);
    }

    #[test]
    fn a_matrix_must_lie_in_its_buffer() {
        let made = |length: usize| {
            let buffer = vec![0.0; length];
            std::panic::catch_unwind(|| Matrix::new(&buffer, [2, 4], 5).end()).ok()
        };
        assert_eq!((made(8), made(9)), (None, Some(9)));
    }
}
