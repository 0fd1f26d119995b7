//! What Flex, the backend on the CPU, does faster than tensor operations can.
//!
//! Numbers are f32 or bf16 and lie in contiguous buffers; what is summed or normalised is f32 in between. Work is spread over
//! rayon's threads, and sums are made in an order that depends on shapes alone, so a run gives the same bits whatever the
//! number of threads.

mod attention;
mod decode;
mod dropout;
#[cfg(test)]
#[path = "../host/tests.rs"]
mod host_tests;
mod matrix;
mod quantized;
mod rows;
mod sums;
#[cfg(test)]
mod tests;

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{DType, Int, Shape, Tensor, TensorData, TensorMetadata},
};
use bytemuck::Pod;

use crate::{
    host::Number,
    ops::{AdamWState, AdamWStep, AttentionInputs, Dropout, KeyValues, LlamaBackend, primitive, tensor},
    quantization::Quantized,
};

#[cfg(test)]
type Tested = Flex;

impl LlamaBackend for Flex {
    fn packed_attention_forward(inputs: AttentionInputs<Self>) -> (FlexTensor, FlexTensor) {
        attention::forward(inputs)
    }

    fn packed_attention_backward(
        inputs: AttentionInputs<Self>,
        out: FlexTensor,
        lse: FlexTensor,
        grad: FlexTensor,
    ) -> [FlexTensor; 3] {
        attention::backward(inputs, out, lse, grad)
    }

    fn cast(x: FlexTensor, dtype: DType) -> FlexTensor {
        rows::cast(x, dtype)
    }

    fn write_rows(buffer: FlexTensor, rows: FlexTensor, at: usize) -> FlexTensor {
        decode::write_rows(buffer, rows, at)
    }

    fn decode_attention(q: FlexTensor, caches: &[KeyValues<Self>], scale: f64) -> FlexTensor {
        decode::attention(q, caches, scale)
    }

    fn dropout(x: FlexTensor, dropout: Dropout) -> FlexTensor {
        dropout::forward(x, dropout)
    }

    fn expand_codes(matrix: &Quantized<Self>, dtype: DType) -> FlexTensor {
        quantized::expand_codes(matrix, dtype)
    }

    fn product(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
        matrix::new_product(lhs, rhs)
    }

    fn add_product(sum: FlexTensor, lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
        matrix::add_product(sum, lhs, rhs)
    }

    fn rms_norm(x: FlexTensor, weight: FlexTensor, eps: f64) -> FlexTensor {
        rows::rms_norm(x, weight, eps)
    }

    fn rms_norm_backward(x: FlexTensor, weight: FlexTensor, eps: f64, grad: FlexTensor) -> [FlexTensor; 2] {
        rows::rms_norm_backward(x, weight, eps, grad)
    }

    fn rotary(x: FlexTensor, cos: FlexTensor, sin: FlexTensor) -> FlexTensor {
        rows::rotary(x, cos, sin)
    }

    fn swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        rows::swiglu(gate, up)
    }

    fn swiglu_backward(gate: FlexTensor, up: FlexTensor, grad: FlexTensor) -> [FlexTensor; 2] {
        rows::swiglu_backward(gate, up, grad)
    }

    fn label_log_probs(logits: FlexTensor, labels: FlexTensor) -> FlexTensor {
        rows::label_log_probs(logits, labels)
    }

    fn label_log_probs_and_gradient(
        logits: FlexTensor,
        labels: FlexTensor,
        coefficients: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        rows::label_log_probs_and_gradient(logits, labels, coefficients)
    }

    fn add_rows(
        sum: Tensor<Self, 2>,
        indices: Tensor<Self, 1, Int>,
        rows: Tensor<Self, 2>,
    ) -> Tensor<Self, 2> {
        sums::add_rows(sum, indices, rows)
    }

    fn add_values(sum: Option<Tensor<Self, 1>>, values: Tensor<Self, 1>) -> Tensor<Self, 1> {
        match sum {
            Some(sum) => sums::add_values(sum, values),
            None => tensor(rows::cast(primitive(values), DType::F32)),
        }
    }

    fn sum_of_squares(values: Tensor<Self, 1>) -> f64 {
        sums::sum_of_squares(values)
    }

    fn adamw(
        value: Tensor<Self, 1>,
        gradient: Tensor<Self, 1>,
        state: Option<AdamWState<Self>>,
        step: AdamWStep,
    ) -> (Tensor<Self, 1>, AdamWState<Self>) {
        rows::adamw(value, gradient, state, step)
    }
}

/// A block in which a name stands for the type of a tensor's elements.
macro_rules! by_type {
    ($dtype:expr, $name:ident => $body:expr) => {
        match $dtype {
            burn::tensor::DType::BF16 => {
                type $name = half::bf16;
                $body
            }
            burn::tensor::DType::F32 => {
                type $name = f32;
                $body
            }
            other => panic!("{other:?} is none of the types that Flex trains in"),
        }
    };
}
use by_type;

/// Types whose layout in a tensor is that of a slice.
trait Element: Number + burn::tensor::Element + Pod {}

impl<T: Number + burn::tensor::Element + Pod> Element for T {}

/// `tensor` with its elements in order and nothing else in its buffer.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    let tensor = tensor.to_contiguous();
    match tensor.bytes().len() == tensor.shape().num_elements() * tensor.dtype().size() {
        true => tensor,
        // The start of a longer buffer.
        false => FlexTensor::from_data(tensor.into_data()),
    }
}

/// Elements of a tensor that [`contiguous`] gave; panics where they are of another type.
fn values<T: Element>(tensor: &FlexTensor) -> &[T] {
    tensor.storage()
}

fn from_values<T: Element>(values: Vec<T>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
