//! A linear map whose weight lies as Hugging Face stores it.

use burn::{
    module::{Module, Param},
    tensor::{DType, Tensor},
};

use crate::{
    lora::Adapter,
    ops::{LlamaBackend, primitive, tensor},
    quantization::Quantized,
};

/// `y = x Wᵀ` with a weight of shape `[out, in]`; Llama has no biases. With an adapter, its output is added.
#[derive(Module, Debug)]
pub struct Linear<B: LlamaBackend> {
    /// `[out, in]`; absent where the weight is kept as codes.
    weight: Option<Param<Tensor<B, 2>>>,
    /// The weight where it is not there as numbers.
    quantized: Option<Quantized<B>>,
    /// What is trained in place of a frozen weight.
    pub adapter: Option<Adapter<B>>,
}

/// The two ways in which a weight is kept.
enum Kept<'a, B: LlamaBackend> {
    Numbers(Tensor<B, 2>),
    Codes(&'a Quantized<B>),
}

impl<B: LlamaBackend> Linear<B> {
    /// A map by `weight` `[out, in]`.
    pub fn new(weight: Param<Tensor<B, 2>>) -> Self {
        Self { weight: Some(weight), quantized: None, adapter: None }
    }

    /// A map by a frozen weight that is kept as codes.
    pub fn quantized(weight: Quantized<B>) -> Self {
        Self { weight: None, quantized: Some(weight), adapter: None }
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        match self.kept() {
            Kept::Numbers(weight) => weight.dims(),
            Kept::Codes(weight) => weight.dims(),
        }
    }

    /// The weight `[out, in]`; codes are expanded, in f32.
    pub fn weight(&self) -> Tensor<B, 2> {
        match self.kept() {
            Kept::Numbers(weight) => weight,
            Kept::Codes(weight) => tensor(B::expand_codes(weight, DType::F32)),
        }
    }

    /// `[tokens, in]` to `[tokens, out]`; `dropout` is that of a [`crate::Stream`].
    pub fn forward(&self, x: Tensor<B, 2>, dropout: Option<u64>) -> Tensor<B, 2> {
        let [_, inner] = self.dims();
        assert_eq!(x.dims()[1], inner, "input against a weight of {:?}", self.dims());
        let project = |x| match self.kept() {
            Kept::Numbers(weight) => tensor(B::project(primitive(x), primitive(weight))),
            Kept::Codes(weight) => tensor(B::project_quantized(primitive(x), weight)),
        };
        match &self.adapter {
            None => project(x),
            Some(adapter) => project(x.clone()) + adapter.forward(x, dropout),
        }
    }

    /// [`Self::forward`] of `silu(gate) * up`, both `[tokens, in]`.
    pub fn forward_gated(&self, gate: Tensor<B, 2>, up: Tensor<B, 2>, dropout: Option<u64>) -> Tensor<B, 2> {
        let [_, inner] = self.dims();
        assert_eq!(gate.dims()[1], inner, "gate against a weight of {:?}", self.dims());
        assert_eq!(up.dims(), gate.dims(), "what is gated against the gate");
        let project = |gate, up| {
            let [gate, up] = [gate, up].map(primitive);
            match self.kept() {
                Kept::Numbers(weight) => tensor(B::swiglu_project(gate, up, primitive(weight))),
                Kept::Codes(weight) => tensor(B::swiglu_project_quantized(gate, up, weight)),
            }
        };
        match &self.adapter {
            None => project(gate, up),
            Some(adapter) => project(gate.clone(), up.clone()) + adapter.forward_gated(gate, up, dropout),
        }
    }

    fn kept(&self) -> Kept<'_, B> {
        match (&self.weight, &self.quantized) {
            (Some(weight), _) => Kept::Numbers(weight.val()),
            (None, Some(codes)) => Kept::Codes(codes),
            (None, None) => unreachable!("a linear map has a weight"),
        }
    }
}
