//! The gate of the feed-forward layer (SwiGLU, arXiv 2002.05202) and the projection that follows it.
//!
//! As one node of the graph, gate and up are kept for the backward pass and their product is made again:
//! two tensors of the inner width are kept instead of three.

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::{
        activation::{sigmoid, silu},
        backend::Backend,
        ops::FloatTensor,
    },
};

use super::{LlamaBackend, linear::transpose, primitive, tensor};

pub fn forward<B: Backend>(gate: FloatTensor<B>, up: FloatTensor<B>) -> FloatTensor<B> {
    primitive(silu(tensor::<B, 2>(gate)) * tensor::<B, 2>(up))
}

/// With `s = sigmoid(gate)`: `dgate = dy up s (1 + gate (1 - s))` and `dup = dy gate s`.
pub fn backward<B: Backend>(
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 2] {
    let [gate, up, grad] = [gate, up, grad].map(tensor::<B, 2>);
    let s = sigmoid(gate.clone());
    let slope = s.clone() * (gate.clone() * s.clone().neg().add_scalar(1.0)).add_scalar(1.0);
    [primitive(grad.clone() * up * slope), primitive(grad * gate * s)]
}

#[derive(Debug)]
struct SwiGluProject;

impl<B: LlamaBackend> Backward<B, 3> for SwiGluProject {
    type State = [FloatTensor<B>; 3];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([gate_node, up_node, weight_node], [gate, up, weight]) = (ops.parents, ops.state);
        if let Some(node) = weight_node {
            let gated = B::swiglu(gate.clone(), up.clone());
            grads.register::<B>(node.id, B::product(transpose::<B>(grad.clone()), gated));
        }
        if gate_node.is_some() || up_node.is_some() {
            let gradients = B::swiglu_backward(gate, up, B::product(grad, weight));
            for (parent, gradient) in [gate_node, up_node].into_iter().zip(gradients) {
                if let Some(node) = parent {
                    grads.register::<B>(node.id, gradient);
                }
            }
        }
    }
}

pub fn tracked_project<B: LlamaBackend, C: CheckpointStrategy>(
    gate: FloatTensor<Autodiff<B, C>>,
    up: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [&gate, &up, &weight].map(|t| t.node.clone());
    let operands = [gate, up, weight].map(|t| t.primitive);
    let [g, u, w] = operands.clone();
    let out = B::swiglu_project(g, u, w);
    match SwiGluProject.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(operands, out),
        OpsKind::UnTracked(prep) => prep.finish(out),
    }
}
