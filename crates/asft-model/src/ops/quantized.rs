//! Products with a frozen matrix that is kept as codes: it is expanded for each, forward and backward, and never kept.

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    module::AutodiffModule,
    tensor::{DType, ElementConversion, Tensor, TensorMetadata, backend::Backend, ops::FloatTensor},
};

use super::{LlamaBackend, primitive};
use crate::quantization::{BLOCK, Quantized};

/// The matrix that the codes stand for, `[rows, columns]`, in a type of choice.
pub fn expand_codes<B: Backend>(matrix: &Quantized<B>, dtype: DType) -> FloatTensor<B> {
    let (bits, [rows, columns]) = (matrix.bits, matrix.dims());
    let mask: i32 = (1 << bits) - 1;
    let place = |place: usize| {
        let shift = (place * bits) as i32;
        let codes = matrix.codes.clone().bitwise_right_shift_scalar(shift.elem());
        codes.bitwise_and_scalar(mask.elem()).unsqueeze_dim::<2>(1)
    };
    let codes = Tensor::cat((0..32 / bits).map(place).collect(), 1).flatten::<1>(0, 1);
    let blocks = matrix.scales.dims()[0];
    let values = matrix.code_book.clone().select(0, codes).reshape([blocks, BLOCK]);
    let values = (values * matrix.scales.clone().unsqueeze_dim::<2>(1)).flatten::<1>(0, 1);
    primitive(values.narrow(0, 0, rows * columns).reshape([rows, columns]).cast(dtype))
}

#[derive(Debug)]
struct Project;

impl<B: LlamaBackend> Backward<B, 1> for Project {
    type State = Quantized<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([node], matrix) = (ops.parents, ops.state);
        if let Some(node) = node {
            let weight = B::expand_codes(&matrix, grad.dtype());
            grads.register::<B>(node.id, B::product(grad, weight));
        }
    }
}

pub fn tracked<B: LlamaBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    matrix: &Quantized<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let matrix = matrix.valid();
    let out = B::project_quantized(x.primitive.clone(), &matrix);
    match Project.prepare::<C>([x.node.clone()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(matrix, out),
        OpsKind::UnTracked(prep) => prep.finish(out),
    }
}

#[derive(Debug)]
struct SwiGluProject;

impl<B: LlamaBackend> Backward<B, 2> for SwiGluProject {
    type State = (FloatTensor<B>, FloatTensor<B>, Quantized<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (gate, up, matrix) = ops.state;
        let weight = B::expand_codes(&matrix, grad.dtype());
        let gradients = B::swiglu_backward(gate, up, B::product(grad, weight));
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub fn tracked_swiglu<B: LlamaBackend, C: CheckpointStrategy>(
    gate: FloatTensor<Autodiff<B, C>>,
    up: FloatTensor<Autodiff<B, C>>,
    matrix: &Quantized<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let matrix = matrix.valid();
    let nodes = [gate.node.clone(), up.node.clone()];
    let (gate, up) = (gate.primitive, up.primitive);
    let out = B::swiglu_project_quantized(gate.clone(), up.clone(), &matrix);
    match SwiGluProject.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((gate, up, matrix), out),
        OpsKind::UnTracked(prep) => prep.finish(out),
    }
}
