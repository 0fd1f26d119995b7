//! A product with a weight that lies as Hugging Face stores it, `[out, in]`.
//!
//! `dx = dy W` and `dW = dyᵀ x` come out with their rows contiguous, where the derivative of `x · transpose(W)`
//! would give `dW` transposed.

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::ops::FloatTensor,
};

use super::{LlamaBackend, primitive, tensor};

pub fn forward<B: LlamaBackend>(x: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
    B::product(x, transpose::<B>(weight))
}

/// The transposed view of a matrix.
pub fn transpose<B: LlamaBackend>(matrix: FloatTensor<B>) -> FloatTensor<B> {
    primitive(tensor::<B, 2>(matrix).transpose())
}

#[derive(Debug)]
struct Linear;

impl<B: LlamaBackend> Backward<B, 2> for Linear {
    /// `x` where the weight is tracked, and the weight where `x` is.
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([x_node, weight_node], (x, weight)) = (ops.parents, ops.state);
        if let (Some(node), Some(x)) = (weight_node, x) {
            grads.register::<B>(node.id, B::product(transpose::<B>(grad.clone()), x));
        }
        if let (Some(node), Some(weight)) = (x_node, weight) {
            grads.register::<B>(node.id, B::product(grad, weight));
        }
    }
}

pub fn tracked<B: LlamaBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let out = B::project(x.primitive.clone(), weight.primitive.clone());
    let is_tracked = |t: &FloatTensor<Autodiff<B, C>>| !t.node.requirement.is_none();
    let state =
        (is_tracked(&weight).then(|| x.primitive.clone()), is_tracked(&x).then(|| weight.primitive.clone()));
    match Linear.prepare::<C>([x.node.clone(), weight.node.clone()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(state, out),
        OpsKind::UnTracked(prep) => prep.finish(out),
    }
}
