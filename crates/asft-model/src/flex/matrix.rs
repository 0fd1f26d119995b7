//! See [`crate::LlamaBackend::product`].

use burn::{backend::flex::FlexTensor, tensor::TensorMetadata};

use super::{contiguous, from_values, values};
use crate::host::matrix::{self, Into, Matrix, Threads};

/// Flex's own product zeroes its output and copies it to another place before it multiplies, on one thread.
pub fn new_product(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
    let [rows, columns] = [lhs.shape()[0], rhs.shape()[1]];
    let [lhs, rhs] = [lhs, rhs].map(Operand::new);
    from_values(matrix::new_product(lhs.matrix(), rhs.matrix()), [rows, columns])
}

/// See [`crate::LlamaBackend::add_product`]; in place where nobody else holds `sum`.
pub fn add_product(sum: FlexTensor, lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
    let mut sum = contiguous(sum);
    let columns = sum.shape()[1];
    let [lhs, rhs] = [lhs, rhs].map(Operand::new);
    matrix::product(sum.storage_mut(), columns, Into::Add, 1.0, lhs.matrix(), rhs.matrix(), Threads::All);
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
