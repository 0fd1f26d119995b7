//! See [`crate::LlamaBackend::product`] and [`crate::LlamaBackend::add_product`].

use burn::backend::libtorch::TchTensor;
use half::bf16;
use tch::{Kind, Tensor};

use super::{
    on_host,
    slices::{by_kind, values, values_mut},
};
use crate::host::{
    matrix::{self, Factor, Into, Matrix, Threads},
    skinny,
};

/// Products of bf16 on the CPU are those of [`crate::host`] where the processor has its instruction: at least as fast as
/// LibTorch's, and none of its threads wait for one another. With AMX, and for a few rows, LibTorch is faster.
pub fn product(lhs: TchTensor, rhs: TchTensor) -> TchTensor {
    if !is_ours(&lhs) || lhs.tensor.size()[0] <= skinny::MOST_ROWS as i64 {
        return TchTensor::new(lhs.tensor.mm(&rhs.tensor));
    }
    let [rows, columns] = [lhs.tensor.size()[0], rhs.tensor.size()[1]];
    let [lhs, rhs] = [lhs, rhs].map(Operand::new);
    let mut out = TchTensor::new(Tensor::empty([rows, columns], (Kind::BFloat16, tch::Device::Cpu)));
    let data = values_mut::<bf16>(&mut out);
    matrix::product(data, columns as usize, Into::Replace, 1.0, lhs.matrix(), rhs.matrix(), Threads::All);
    out
}

/// In place where nobody else holds the sum.
pub fn add_product(mut sum: TchTensor, lhs: TchTensor, rhs: TchTensor) -> TchTensor {
    if is_ours(&lhs) && sum.can_mut() && sum.tensor.is_contiguous() {
        let columns = sum.tensor.size()[1] as usize;
        let [lhs, rhs] = [lhs, rhs].map(Operand::new);
        by_kind!(sum.tensor.kind(), D => {
            let data = values_mut::<D>(&mut sum);
            matrix::product(data, columns, Into::Add, 1.0, lhs.matrix(), rhs.matrix(), Threads::All);
        });
        return sum;
    }
    let (lhs, rhs) = (lhs.tensor, rhs.tensor);
    let same_kind = lhs.kind() == sum.tensor.kind();
    match (same_kind, sum.can_mut()) {
        (true, true) => sum.tensor = sum.tensor.addmm_(&lhs, &rhs),
        (true, false) => return TchTensor::new(sum.tensor.addmm(&lhs, &rhs)),
        (false, true) => sum.tensor = sum.tensor.g_add_(&lhs.mm(&rhs)),
        (false, false) => return TchTensor::new(sum.tensor.g_add(&lhs.mm(&rhs))),
    }
    sum
}

fn is_ours(factor: &TchTensor) -> bool {
    on_host(factor)
        && factor.tensor.kind() == Kind::BFloat16
        && factor.tensor.size().iter().all(|&size| size > 0)
        && <bf16 as Factor<bf16>>::has_instruction()
        && !has_matrix_unit()
}

/// Whether the processor has AMX for bf16, which LibTorch uses.
fn has_matrix_unit() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        const AMX_BF16: u32 = 1 << 22;
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & AMX_BF16 != 0
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// A contiguous tensor, or the transpose of one, which needs no copy.
struct Operand {
    rows: Tensor,
    transposed: bool,
}

impl Operand {
    fn new(tensor: TchTensor) -> Self {
        let turned = tensor.tensor.transpose(0, 1);
        match !tensor.tensor.is_contiguous() && turned.is_contiguous() {
            true => Self { rows: turned, transposed: true },
            false => Self { rows: tensor.tensor.contiguous(), transposed: false },
        }
    }

    fn matrix(&self) -> Matrix<'_, bf16> {
        let [rows, columns] = [0, 1].map(|axis| self.rows.size()[axis] as usize);
        let matrix = Matrix::new(values(&self.rows), [rows, columns], columns);
        if self.transposed { matrix.transpose() } else { matrix }
    }
}
