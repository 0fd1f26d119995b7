//! See [`crate::LlamaBackend::add_product`].

use burn::backend::libtorch::TchTensor;

/// In place where nobody else holds the sum.
pub fn add_product(mut sum: TchTensor, lhs: TchTensor, rhs: TchTensor) -> TchTensor {
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
