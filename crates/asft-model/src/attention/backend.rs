//! The attention operation as a backend's own, with its backward pass.

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
    tensor::{
        backend::{AutodiffBackend, Backend},
        ops::FloatTensor,
    },
};

use super::{AttentionLayout, tiled};

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

/// A backend that can run Llama. An empty impl takes the definitions made of tensor operations, which say
/// what is right; a backend overrides them where it has something faster.
pub trait LlamaBackend: Backend {
    /// Output `[tokens, heads, head_dim]` and log-sum-exp of the scaled scores `[tokens, heads]`, f32.
    fn packed_attention_forward(inputs: AttentionInputs<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        tiled::forward::<Self>(inputs)
    }

    /// Gradients of q, k and v from `out` and `lse` as the forward pass gave them and the output's gradient.
    fn packed_attention_backward(
        inputs: AttentionInputs<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3] {
        tiled::backward::<Self>(inputs, out, lse, grad)
    }

    /// Output `[tokens, heads, head_dim]`; differentiable where the backend is.
    fn packed_attention(inputs: AttentionInputs<Self>) -> FloatTensor<Self> {
        Self::packed_attention_forward(inputs).0
    }
}

/// A differentiable backend whose inner backend runs Llama too: what training asks for.
pub trait TrainBackend: AutodiffBackend<InnerBackend: LlamaBackend> + LlamaBackend {}
impl<B: AutodiffBackend<InnerBackend: LlamaBackend> + LlamaBackend> TrainBackend for B {}

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

impl<B: LlamaBackend, C: CheckpointStrategy> LlamaBackend for Autodiff<B, C> {
    fn packed_attention(inputs: AttentionInputs<Self>) -> FloatTensor<Self> {
        let nodes = [&inputs.q, &inputs.k, &inputs.v].map(|t| t.node.clone());
        let inner = AttentionInputs::<B> {
            q: inputs.q.primitive.clone(),
            k: inputs.k.primitive.clone(),
            v: inputs.v.primitive.clone(),
            layout: inputs.layout.clone(),
            scale: inputs.scale,
        };
        let (out, lse) = B::packed_attention_forward(inner.clone());
        match Attention.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(Saved { inputs: inner, out: out.clone(), lse }, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[cfg(feature = "flex")]
impl LlamaBackend for burn::backend::Flex {}
