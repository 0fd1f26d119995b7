//! The operations of a training step that a backend may have something faster for.
//!
//! Each comes with a definition made of tensor operations, which says what is right and runs everywhere, and
//! where it is differentiated with a backward pass of its own, so that what is kept between the two passes
//! is chosen here and not by autodiff.

pub(crate) mod adamw;
mod attention;
pub(crate) mod decode;
pub(crate) mod dropout;
mod linear;
pub(crate) mod log_probs;
pub(crate) mod quantized;
pub(crate) mod rms_norm;
pub(crate) mod rotary;
pub(crate) mod rounding;
pub(crate) mod sums;
pub(crate) mod swiglu;
pub mod tiled_attention;

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::{
        DType, Int, Tensor, TensorMetadata, TensorPrimitive,
        backend::{AutodiffBackend, Backend},
        ops::{FloatTensor, IntTensor},
    },
};

pub use adamw::{AdamWState, AdamWStep};
pub use attention::AttentionInputs;
pub use decode::KeyValues;
pub use dropout::Dropout;

use crate::{WeightType, quantization::Quantized};

/// A backend that can run Llama. An empty impl takes the definitions made of tensor operations; a backend
/// overrides them where it has something faster.
pub trait LlamaBackend: Backend {
    /// Whether models can be trained in weights of this type: a backend may hold tensors that it is slow with.
    fn trains_in(weight_type: WeightType, device: &Self::Device) -> bool {
        Self::supports_dtype(device, weight_type.dtype().into())
    }

    /// Attention output `[tokens, heads, head_dim]` as the backward pass wants it, and the log-sum-exp of the scaled scores
    /// `[tokens, heads]`, f32; empty where the backend's backward pass does without. An output that the backward pass
    /// multiplies is f32: what rounding takes from it would grow where gradients of weights nearly cancel.
    fn packed_attention_forward(inputs: AttentionInputs<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        tiled_attention::forward::<Self>(inputs)
    }

    /// Gradients of q, k and v from `out` and `lse` as the forward pass gave them and the output's gradient.
    fn packed_attention_backward(
        inputs: AttentionInputs<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3] {
        tiled_attention::backward::<Self>(inputs, out, lse, grad)
    }

    /// Attention output `[tokens, heads, head_dim]`; differentiable where the backend is.
    fn packed_attention(inputs: AttentionInputs<Self>) -> FloatTensor<Self> {
        let dtype = inputs.q.dtype();
        attention::of_type::<Self>(Self::packed_attention_forward(inputs).0, dtype)
    }

    /// `x` in another type.
    fn cast(x: FloatTensor<Self>, dtype: DType) -> FloatTensor<Self> {
        Self::float_cast(x, dtype.into())
    }

    /// `buffer` `[capacity, key_value_heads, head_dim]` with `rows` of the same width written over those from `at`.
    fn write_rows(buffer: FloatTensor<Self>, rows: FloatTensor<Self>, at: usize) -> FloatTensor<Self> {
        decode::write_rows::<Self>(buffer, rows, at)
    }

    /// Attention of one query a sequence, `q` `[batch, heads, head_dim]`, over all tokens that the sequence's cache
    /// holds; softmax in f32. Not differentiable.
    fn decode_attention(q: FloatTensor<Self>, caches: &[KeyValues<Self>], scale: f64) -> FloatTensor<Self> {
        decode::attention::<Self>(q, caches, scale)
    }

    /// `x Wᵀ`: `x` `[tokens, in]`, `weight` `[out, in]`; differentiable where the backend is.
    fn project(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::forward::<Self>(x, weight)
    }

    /// `x` with elements dropped by chance, see [`Dropout`]; differentiable where the backend is. Its own gradient is
    /// the same operation.
    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        dropout::forward::<Self>(x, dropout)
    }

    /// What the codes of a matrix stand for, `[rows, columns]`, as `dtype`.
    fn expand_codes(matrix: &Quantized<Self>, dtype: DType) -> FloatTensor<Self> {
        quantized::expand_codes(matrix, dtype)
    }

    /// [`Self::project`] by a frozen weight that is kept as codes; differentiable by `x` where the backend is.
    fn project_quantized(x: FloatTensor<Self>, weight: &Quantized<Self>) -> FloatTensor<Self> {
        let weight = Self::expand_codes(weight, x.dtype());
        Self::project(x, weight)
    }

    /// [`Self::swiglu_project`] by a frozen weight that is kept as codes; differentiable by `gate` and `up` where the
    /// backend is.
    fn swiglu_project_quantized(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        weight: &Quantized<Self>,
    ) -> FloatTensor<Self> {
        Self::project_quantized(Self::swiglu(gate, up), weight)
    }

    /// `lhs rhs`, both of two dimensions.
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        primitive(tensor::<Self, 2>(lhs).matmul(tensor(rhs)))
    }

    /// `sum + lhs rhs`, all of two dimensions, in the type of `sum`, which may be wider than that of the others.
    fn add_product(
        sum: FloatTensor<Self>,
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [sum, lhs, rhs] = [sum, lhs, rhs].map(tensor::<Self, 2>);
        let product = lhs.matmul(rhs).cast(sum.dtype());
        primitive(sum + product)
    }

    /// `x / sqrt(mean(x²) + eps) * weight` over the last dimension of `x` `[tokens, hidden]`, computed in
    /// f32; differentiable where the backend is.
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        rms_norm::forward::<Self>(x, weight, eps)
    }

    /// Gradients of [`Self::rms_norm`] by `x` and by `weight`.
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        rms_norm::backward::<Self>(x, weight, eps, grad)
    }

    /// Rotates `x` `[tokens, heads, head_dim]` by angles whose cosines and sines are `[tokens, head_dim / 2]`:
    /// plane i is `(x[i], x[i + head_dim / 2])`. Differentiable by `x` where the backend is.
    fn rotary(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>) -> FloatTensor<Self> {
        rotary::forward::<Self>(x, cos, sin)
    }

    /// `silu(gate) * up`, both `[tokens, intermediate]`.
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        swiglu::forward::<Self>(gate, up)
    }

    /// `(silu(gate) * up) Wᵀ` for `weight` `[out, intermediate]`; differentiable where the backend is.
    fn swiglu_project(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::project(Self::swiglu(gate, up), weight)
    }

    /// Gradients of [`Self::swiglu`] by `gate` and by `up`.
    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        swiglu::backward::<Self>(gate, up, grad)
    }

    /// Log-softmax of `logits` `[rows, vocab]` at `labels` `[rows]`, as `[rows]`, f32 whatever the logits' type.
    fn label_log_probs(logits: FloatTensor<Self>, labels: IntTensor<Self>) -> FloatTensor<Self> {
        log_probs::forward::<Self>(logits, labels)
    }

    /// The same log-probs, and the gradient by `logits`, in their type, of `Σ coefficients · log_probs` for f32
    /// `coefficients` `[rows]`.
    fn label_log_probs_and_gradient(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        coefficients: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        log_probs::forward_and_gradient::<Self>(logits, labels, coefficients)
    }

    /// `sum` `[length, width]` with each of `rows` `[count, width]` added to the row that its index names, in
    /// the type of `sum`.
    fn add_rows(
        sum: Tensor<Self, 2>,
        indices: Tensor<Self, 1, Int>,
        rows: Tensor<Self, 2>,
    ) -> Tensor<Self, 2> {
        sums::add_rows(sum, indices, rows)
    }

    /// `sum`, which is f32, with `values` of any type added, both flat; without a sum the values in f32.
    fn add_values(sum: Option<Tensor<Self, 1>>, values: Tensor<Self, 1>) -> Tensor<Self, 1> {
        let values = values.cast(DType::F32);
        match sum {
            Some(sum) => sum + values,
            None => values,
        }
    }

    /// Sum of the squares of flat f32 values, the same from run to run.
    fn sum_of_squares(values: Tensor<Self, 1>) -> f64 {
        sums::sum_of_squares(values)
    }

    /// One AdamW step of flat parameters with an f32 gradient. Parameters in bf16 are rounded by chance, from the
    /// seed in `step`.
    fn adamw(
        value: Tensor<Self, 1>,
        gradient: Tensor<Self, 1>,
        state: Option<AdamWState<Self>>,
        step: AdamWStep,
    ) -> (Tensor<Self, 1>, AdamWState<Self>) {
        adamw::step::<Self>(value, gradient, state, step)
    }
}

/// A differentiable backend whose inner backend runs Llama too: what training asks for.
pub trait TrainBackend: AutodiffBackend<InnerBackend: LlamaBackend> + LlamaBackend {}
impl<B: AutodiffBackend<InnerBackend: LlamaBackend> + LlamaBackend> TrainBackend for B {}

impl<B: LlamaBackend, C: CheckpointStrategy> LlamaBackend for Autodiff<B, C> {
    fn trains_in(weight_type: WeightType, device: &Self::Device) -> bool {
        B::trains_in(weight_type, device)
    }

    fn packed_attention(inputs: AttentionInputs<Self>) -> FloatTensor<Self> {
        attention::tracked::<B, C>(inputs)
    }

    fn project(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::tracked::<B, C>(x, weight)
    }

    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        dropout::tracked::<B, C>(x, dropout)
    }

    fn project_quantized(x: FloatTensor<Self>, weight: &Quantized<Self>) -> FloatTensor<Self> {
        quantized::tracked::<B, C>(x, weight)
    }

    fn swiglu_project_quantized(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        weight: &Quantized<Self>,
    ) -> FloatTensor<Self> {
        quantized::tracked_swiglu::<B, C>(gate, up, weight)
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        rms_norm::tracked::<B, C>(x, weight, eps)
    }

    fn rotary(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>) -> FloatTensor<Self> {
        rotary::tracked::<B, C>(x, cos, sin)
    }

    fn swiglu_project(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        swiglu::tracked_project::<B, C>(gate, up, weight)
    }
}

/// The tensor of a float primitive.
pub(crate) fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// The float primitive of a tensor.
pub(crate) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}
