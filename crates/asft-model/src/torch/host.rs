//! Elements of a tensor in the host's memory, as a slice.

use burn::backend::libtorch::TchTensor;
use tch::{Kind, Tensor};

/// Types whose layout in a tensor is that of a slice.
pub trait HostElement {
    /// LibTorch's name of the type.
    const KIND: Kind;
}

impl HostElement for f32 {
    const KIND: Kind = Kind::Float;
}

impl HostElement for half::bf16 {
    const KIND: Kind = Kind::BFloat16;
}

/// Elements in order; panics where they do not lie so on the host in this type.
pub fn values<T: HostElement>(tensor: &Tensor) -> &[T] {
    let (data, length) = parts::<T>(tensor);
    #[expect(unsafe_code, reason = "LibTorch owns the memory")]
    // SAFETY: `parts` checked that so many elements of this type lie there; the tensor keeps them alive.
    unsafe {
        std::slice::from_raw_parts(data, length)
    }
}

/// The same to be written to; panics where somebody else holds the tensor.
pub fn values_mut<T: HostElement>(tensor: &mut TchTensor) -> &mut [T] {
    assert!(tensor.can_mut(), "a tensor that is written to must not be shared");
    let (data, length) = parts::<T>(&tensor.tensor);
    #[expect(unsafe_code, reason = "LibTorch owns the memory")]
    // SAFETY: as above, and nobody else holds the memory.
    unsafe {
        std::slice::from_raw_parts_mut(data, length)
    }
}

/// In order and held by nobody else.
pub fn own(tensor: TchTensor) -> TchTensor {
    match tensor.tensor.is_contiguous() && tensor.can_mut() {
        true => tensor,
        false => TchTensor::new(tensor.tensor.contiguous().copy()),
    }
}

fn parts<T: HostElement>(tensor: &Tensor) -> (*mut T, usize) {
    assert_eq!((tensor.device(), tensor.kind()), (tch::Device::Cpu, T::KIND));
    assert!(tensor.is_contiguous(), "elements must lie in order");
    match tensor.numel() {
        // LibTorch has no memory for them.
        0 => (std::ptr::NonNull::dangling().as_ptr(), 0),
        length => (tensor.data_ptr().cast(), length),
    }
}
