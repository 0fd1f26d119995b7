//! The gate of the feed-forward layer (SwiGLU, arXiv 2002.05202).

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

use super::{LlamaBackend, primitive, tensor};

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
struct SwiGlu;

impl<B: LlamaBackend> Backward<B, 2> for SwiGlu {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (gate, up) = ops.state;
        let gradients = B::swiglu_backward(gate, up, grad);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub fn tracked<B: LlamaBackend, C: CheckpointStrategy>(
    gate: FloatTensor<Autodiff<B, C>>,
    up: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [gate.node, up.node];
    let out = B::swiglu(gate.primitive.clone(), up.primitive.clone());
    match SwiGlu.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((gate.primitive, up.primitive), out),
        OpsKind::UnTracked(prep) => prep.finish(out),
    }
}
