//! Dropout whose mask is a function of a seed, so that it is never kept: who runs a block again gets the same one,
//! and so does the backward pass.

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::{Distribution, Tensor, backend::Backend, ops::FloatTensor},
};

use super::{LlamaBackend, primitive, tensor};

/// Which elements are dropped.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Probability of each, from 0 to below 1.
    pub rate: f64,
    /// Decides which; the same seed and shape give the same elements.
    pub seed: u64,
}

/// `x` with dropped elements 0 and the others times `1 / (1 - rate)`. It seeds the backend's own random numbers,
/// which nothing else here draws.
pub fn forward<B: Backend>(x: FloatTensor<B>, dropout: Dropout) -> FloatTensor<B> {
    let x = tensor::<B, 2>(x);
    let keep = 1.0 - dropout.rate;
    B::seed(&x.device(), dropout.seed);
    let mask = Tensor::<B, 2>::random(x.dims(), Distribution::Bernoulli(keep), &x.device());
    primitive(x.clone() * mask.cast(x.dtype()).div_scalar(keep))
}

#[derive(Debug)]
struct Masked;

impl<B: LlamaBackend> Backward<B, 1> for Masked {
    type State = Dropout;

    fn backward(self, ops: Ops<Dropout, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([node], dropout) = (ops.parents, ops.state);
        if let Some(node) = node {
            grads.register::<B>(node.id, B::dropout(grad, dropout));
        }
    }
}

pub fn tracked<B: LlamaBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    dropout: Dropout,
) -> FloatTensor<Autodiff<B, C>> {
    let out = B::dropout(x.primitive.clone(), dropout);
    match Masked.prepare::<C>([x.node.clone()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(dropout, out),
        OpsKind::UnTracked(prep) => prep.finish(out),
    }
}
