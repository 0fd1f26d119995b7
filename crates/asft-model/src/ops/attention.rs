//! The attention operation and its node in the graph.

use std::sync::Arc;

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::{DType, TensorMetadata, backend::Backend, ops::FloatTensor},
};

use super::LlamaBackend;
use crate::AttentionLayout;

/// Operands of one attention call.
#[derive(Clone, Debug)]
pub struct AttentionInputs<B: Backend> {
    /// `[tokens, heads, head_dim]`.
    pub q: FloatTensor<B>,
    /// `[tokens, key_value_heads, head_dim]`.
    pub k: FloatTensor<B>,
    /// `[tokens, key_value_heads, head_dim]`.
    pub v: FloatTensor<B>,
    /// Which keys each query sees.
    pub layout: Arc<AttentionLayout>,
    /// Factor of the scores.
    pub scale: f64,
}

#[derive(Debug)]
struct Attention;

#[derive(Clone, Debug)]
struct Saved<B: Backend> {
    inputs: AttentionInputs<B>,
    out: FloatTensor<B>,
    lse: FloatTensor<B>,
}

impl<B: LlamaBackend> Backward<B, 3> for Attention {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let Saved { inputs, out, lse } = ops.state;
        let gradients = B::packed_attention_backward(inputs, out, lse, grad);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub fn tracked<B: LlamaBackend, C: CheckpointStrategy>(
    inputs: AttentionInputs<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [&inputs.q, &inputs.k, &inputs.v].map(|t| t.node.clone());
    let inner = AttentionInputs::<B> {
        q: inputs.q.primitive.clone(),
        k: inputs.k.primitive.clone(),
        v: inputs.v.primitive.clone(),
        layout: inputs.layout.clone(),
        scale: inputs.scale,
    };
    let (wide, lse) = B::packed_attention_forward(inner.clone());
    let out = of_type::<B>(wide.clone(), inner.q.dtype());
    match Attention.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(Saved { inputs: inner, out: wide, lse }, out),
        OpsKind::UnTracked(prep) => prep.finish(out),
    }
}

/// What follows attention takes its output in the type of the operands.
pub fn of_type<B: LlamaBackend>(out: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    match out.dtype() == dtype {
        true => out,
        false => B::cast(out, dtype),
    }
}
