//! See [`crate::LlamaBackend::product`].

use burn::{
    backend::flex::FlexTensor,
    tensor::{DType, TensorMetadata},
};
use half::bf16;

use super::{Element, by_type, contiguous, from_values, values};
use crate::host::matrix::{self, Factor, Into, Matrix, Threads};

/// Flex's own product zeroes its output and copies it to another place before it multiplies, on one thread.
pub fn new_product(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
    let [rows, columns] = [lhs.shape()[0], rhs.shape()[1]];
    let [lhs, rhs] = [lhs, rhs].map(Operand::new);
    by_type!(lhs.rows.dtype(), T => {
        from_values(matrix::new_product::<T>(lhs.matrix(), rhs.matrix()), [rows, columns])
    })
}

/// See [`crate::LlamaBackend::add_product`]; in place where nobody else holds `sum`.
pub fn add_product(sum: FlexTensor, lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
    let mut sum = contiguous(sum);
    let [lhs, rhs] = [lhs, rhs].map(Operand::new);
    match (sum.dtype(), lhs.rows.dtype()) {
        (DType::F32, DType::F32) => add::<f32, f32>(&mut sum, &lhs, &rhs),
        (DType::F32, DType::BF16) => add::<f32, bf16>(&mut sum, &lhs, &rhs),
        (DType::BF16, DType::BF16) => add::<bf16, bf16>(&mut sum, &lhs, &rhs),
        (sum, factors) => panic!("products of {factors:?} are not added to {sum:?}"),
    }
    sum
}

fn add<D: Element, T: Element + Factor<D>>(sum: &mut FlexTensor, lhs: &Operand, rhs: &Operand) {
    let columns = sum.shape()[1];
    let (lhs, rhs) = (lhs.matrix::<T>(), rhs.matrix());
    matrix::product(sum.storage_mut::<D>(), columns, Into::Add, 1.0, lhs, rhs, Threads::All);
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

    fn matrix<T: Element>(&self) -> Matrix<'_, T> {
        let [rows, columns] = self.rows.shape().dims();
        let matrix = Matrix::new(values(&self.rows), [rows, columns], columns);
        if self.transposed { matrix.transpose() } else { matrix }
    }
}
