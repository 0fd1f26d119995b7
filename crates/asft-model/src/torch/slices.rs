//! Elements of a tensor in the host's memory, as a slice.

use burn::backend::libtorch::TchTensor;
use tch::{Kind, Tensor};

use crate::host::Number;

/// Types whose layout in a tensor is that of a slice.
pub trait Element: Number {
    /// LibTorch's name of the type.
    const KIND: Kind;
}

impl Element for f32 {
    const KIND: Kind = Kind::Float;
}

impl Element for half::bf16 {
    const KIND: Kind = Kind::BFloat16;
}

/// A block in which a name stands for the type of a tensor's elements.
macro_rules! by_kind {
    ($kind:expr, $name:ident => $body:expr) => {
        match $kind {
            tch::Kind::BFloat16 => {
                type $name = half::bf16;
                $body
            }
            tch::Kind::Float => {
                type $name = f32;
                $body
            }
            other => panic!("{other:?} is none of the types that are computed in on the CPU"),
        }
    };
}
pub(super) use by_kind;

/// Whether elements lie in the host's memory.
pub fn on_host(tensor: &TchTensor) -> bool {
    tensor.tensor.device() == tch::Device::Cpu
}

/// Elements in order; panics where they do not lie so on the host in this type.
pub fn values<T: Element>(tensor: &Tensor) -> &[T] {
    let (data, length) = parts::<T>(tensor);
    #[expect(unsafe_code, reason = "LibTorch owns the memory")]
    // SAFETY: `parts` checked that so many elements of this type lie there; the tensor keeps them alive.
    unsafe {
        std::slice::from_raw_parts(data, length)
    }
}

/// The same to be written to; panics where somebody else holds the tensor.
pub fn values_mut<T: Element>(tensor: &mut TchTensor) -> &mut [T] {
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

fn parts<T: Element>(tensor: &Tensor) -> (*mut T, usize) {
    assert_eq!((tensor.device(), tensor.kind()), (tch::Device::Cpu, T::KIND));
    assert!(tensor.is_contiguous(), "elements must lie in order");
    match tensor.numel() {
        // LibTorch has no memory for them.
        0 => (std::ptr::NonNull::dangling().as_ptr(), 0),
        length => (tensor.data_ptr().cast(), length),
    }
}
