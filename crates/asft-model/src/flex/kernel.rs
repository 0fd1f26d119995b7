//! A product of two strided matrices on one thread, by the fastest library there is for the processor.
//!
//! On x86-64 with AVX2 or AVX-512 that is faer's kernel, elsewhere the crate that Flex itself multiplies with. With faer's
//! kernel large products are 6% faster, those of attention's size 20 to 30% (docs/log.md, 2026-11-27). Either sums
//! an element in an order that depends on the inner dimension alone.
#![allow(unsafe_code)]

use super::matrix::{Into, Matrix};

/// Writes `factor · lhs rhs`, or adds it, to rows of `rhs.columns` elements that are `stride` apart from `data` on.
///
/// # Safety
/// Those rows must be writable, and for [`Into::Add`] initialised, and overlap neither each other nor the operands. They
/// are written only where the inner dimension is at least 1.
pub unsafe fn multiply(
    data: *mut f32,
    stride: usize,
    into: Into,
    factor: f32,
    lhs: Matrix<'_>,
    rhs: Matrix<'_>,
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(instructions) = x86::instructions() {
        // SAFETY: the processor has the instructions, and the caller answers for the rest.
        return unsafe { x86::multiply(instructions, data, stride, into, factor, lhs, rhs) };
    }
    // SAFETY: both operands lie within their buffers, since a `Matrix` cannot be made otherwise; the caller answers
    // for the destination.
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
            gemm::Parallelism::None,
        );
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::ptr;

    use private_gemm_x86::{Accum, DType, DstKind, IType, InstrSet, gemm};
    use pulp::x86::{V3, V4};

    use super::{Into, Matrix};

    /// The widest vectors that the processor has, if any are wide enough.
    pub fn instructions() -> Option<InstrSet> {
        match (V4::is_available(), V3::is_available()) {
            (true, _) => Some(InstrSet::Avx512),
            (false, true) => Some(InstrSet::Avx256),
            (false, false) => None,
        }
    }

    /// See [`super::multiply`]; the processor must have `instructions`.
    pub unsafe fn multiply(
        instructions: InstrSet,
        data: *mut f32,
        stride: usize,
        into: Into,
        factor: f32,
        lhs: Matrix<'_>,
        rhs: Matrix<'_>,
    ) {
        let accumulate = match into {
            Into::Replace => Accum::Replace,
            Into::Add => Accum::Add,
        };
        // SAFETY: as for `super::multiply`. No rows or columns are looked up, and nothing lies on a diagonal.
        unsafe {
            gemm(
                DType::F32,
                IType::U64,
                instructions,
                lhs.rows,
                rhs.columns,
                lhs.columns,
                data.cast(),
                stride as isize,
                1,
                ptr::null(),
                ptr::null(),
                DstKind::Full,
                accumulate,
                lhs.data.as_ptr().cast(),
                lhs.row_stride as isize,
                lhs.column_stride as isize,
                false,
                ptr::null(),
                0,
                rhs.data.as_ptr().cast(),
                rhs.row_stride as isize,
                rhs.column_stride as isize,
                false,
                (&raw const factor).cast(),
                1,
            );
        }
    }
}
