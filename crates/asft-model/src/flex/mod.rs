//! What Flex, the backend on the CPU, does faster than tensor operations can.
//!
//! Everything here is f32, but for moments of the optimizer, on contiguous buffers, spread over rayon's threads. Sums are
//! made in an order that depends on shapes alone, so a run gives the same bits whatever the number of threads.

mod attention;
mod decode;
mod dropout;
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

use crate::{
    WeightType, ops,
    ops::{AdamWState, AdamWStep, AttentionInputs, Dropout, KeyValues, LlamaBackend},
    quantization::Quantized,
};

impl LlamaBackend for Flex {
    /// Flex computes in f32: it would convert bf16 operands at every product.
    fn trains_in(weight_type: WeightType, _: &Self::Device) -> bool {
        weight_type == WeightType::F32
    }

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
        match dtype {
            DType::F32 => quantized::expand_codes(matrix),
            other => ops::quantized::expand_codes(matrix, other),
        }
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

/// `tensor` with its elements in order and nothing else in its buffer; panics where it is not f32.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    assert_eq!(tensor.dtype(), DType::F32, "Flex trains in f32");
    let tensor = tensor.to_contiguous();
    match tensor.storage::<f32>().len() == tensor.shape().num_elements() {
        true => tensor,
        // The start of a longer buffer.
        false => FlexTensor::from_data(tensor.into_data()),
    }
}

/// Elements of a tensor that [`contiguous`] gave.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.storage()
}

fn from_values(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
