//! Grouped-query self-attention over a packed stream.

mod layout;

use burn::{module::Module, tensor::Tensor};

pub use layout::{AttentionLayout, Span};

use crate::{Linear, LlamaBackend, Stream, ops::AttentionInputs, rope};

/// The attention layer: projections, rotary embedding and the attention operation of the backend.
#[derive(Module, Debug)]
pub struct SelfAttention<B: LlamaBackend> {
    /// `[heads * head_dim, hidden]`.
    pub q_proj: Linear<B>,
    /// `[key_value_heads * head_dim, hidden]`.
    pub k_proj: Linear<B>,
    /// `[key_value_heads * head_dim, hidden]`.
    pub v_proj: Linear<B>,
    /// `[hidden, heads * head_dim]`.
    pub o_proj: Linear<B>,
    /// Width of one head.
    pub head_dim: usize,
}

impl<B: LlamaBackend> SelfAttention<B> {
    /// `[tokens, hidden]` to the same shape.
    pub fn forward(&self, x: Tensor<B, 2>, stream: &Stream<B>) -> Tensor<B, 2> {
        self.forward_with(x, &stream.cos, &stream.sin, stream.dropout, |q, k, v| attend(q, k, v, stream))
    }

    /// `[tokens, hidden]` to the same shape, with rotary tables `[tokens, head_dim / 2]` and the dropout of a
    /// [`Stream`]; `attend` makes outputs
    /// `[tokens, heads, head_dim]` of rotated queries, rotated keys and values.
    pub fn forward_with(
        &self,
        x: Tensor<B, 2>,
        cos: &Tensor<B, 2>,
        sin: &Tensor<B, 2>,
        dropout: Option<u64>,
        attend: impl FnOnce(Tensor<B, 3>, Tensor<B, 3>, Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> Tensor<B, 2> {
        let tokens = x.dims()[0];
        let heads = |y: Tensor<B, 2>| -> Tensor<B, 3> {
            let width = y.dims()[1];
            y.reshape([tokens, width / self.head_dim, self.head_dim])
        };
        let q = rope::rotate(heads(self.q_proj.forward(x.clone(), dropout)), cos, sin);
        let k = rope::rotate(heads(self.k_proj.forward(x.clone(), dropout)), cos, sin);
        let v = heads(self.v_proj.forward(x, dropout));
        self.o_proj.forward(attend(q, k, v).flatten::<2>(1, 2), dropout)
    }
}

/// Softmax attention of `q` `[tokens, heads, head_dim]` over `k`, `v` `[tokens, key_value_heads, head_dim]`,
/// scores scaled by `1 / sqrt(head_dim)`; each query sees what the stream's layout lets it see.
pub fn attend<B: LlamaBackend>(
    q: Tensor<B, 3>,
    k: Tensor<B, 3>,
    v: Tensor<B, 3>,
    stream: &Stream<B>,
) -> Tensor<B, 3> {
    let ([tokens, heads, head_dim], [_, kv_heads, _]) = (q.dims(), k.dims());
    assert_eq!(k.dims(), [tokens, kv_heads, head_dim], "keys against queries {:?}", q.dims());
    assert_eq!(v.dims(), k.dims(), "values against keys");
    assert_eq!(heads % kv_heads, 0, "{heads} heads over {kv_heads} key/value heads");
    assert_eq!(stream.layout.tokens(), tokens, "attention layout against the stream");
    let [q, k, v] = [q, k, v].map(|t| t.into_primitive().tensor());
    let inputs =
        AttentionInputs { q, k, v, layout: stream.layout.clone(), scale: 1.0 / (head_dim as f64).sqrt() };
    Tensor::from_primitive(burn::tensor::TensorPrimitive::Float(B::packed_attention(inputs)))
}
