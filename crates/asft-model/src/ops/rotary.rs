//! The rotation of rotary position embedding; its derivative is the rotation back.

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::{Tensor, TensorMetadata, backend::Backend, ops::FloatTensor},
};

use super::{LlamaBackend, primitive, tensor};

pub fn forward<B: Backend>(x: FloatTensor<B>, cos: FloatTensor<B>, sin: FloatTensor<B>) -> FloatTensor<B> {
    let dtype = x.dtype();
    let x = tensor::<B, 3>(x);
    let [tokens, heads, head_dim] = x.dims();
    let half = head_dim / 2;
    let [cos, sin] = [cos, sin].map(|t| tensor::<B, 2>(t).unsqueeze_dim::<3>(1).cast(dtype));
    let first = x.clone().slice([0..tokens, 0..heads, 0..half]);
    let second = x.slice([0..tokens, 0..heads, half..head_dim]);
    let halves = vec![first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos + first * sin];
    primitive(Tensor::cat(halves, 2))
}

#[derive(Debug)]
struct Rotary;

impl<B: LlamaBackend> Backward<B, 1> for Rotary {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([parent], (cos, sin)) = (ops.parents, ops.state);
        if let Some(node) = parent {
            let sin = primitive(tensor::<B, 2>(sin).neg());
            grads.register::<B>(node.id, B::rotary(grad, cos, sin));
        }
    }
}

pub fn tracked<B: LlamaBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    cos: FloatTensor<Autodiff<B, C>>,
    sin: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let (node, cos, sin) = (x.node, cos.primitive, sin.primitive);
    let out = B::rotary(x.primitive, cos.clone(), sin.clone());
    match Rotary.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((cos, sin), out),
        OpsKind::UnTracked(prep) => prep.finish(out),
    }
}
