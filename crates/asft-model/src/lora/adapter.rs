//! The low-rank pair of matrices beside one frozen weight.

use burn::{
    module::{Module, Param},
    tensor::{DType, Tensor},
};

use crate::ops::{Dropout, LlamaBackend, primitive, rounding::mix, tensor};

/// `y = scale · (x Aᵀ) Bᵀ`, added to what the weight gives (arXiv 2106.09685). Both matrices are f32 whatever the
/// type of the weight, and rounded to the type of `x` where they are multiplied.
#[derive(Module, Debug)]
pub struct Adapter<B: LlamaBackend> {
    /// `A`, `[rank, in]`.
    pub lora_a: Param<Tensor<B, 2>>,
    /// `B`, `[out, rank]`.
    pub lora_b: Param<Tensor<B, 2>>,
    /// `alpha / rank`.
    pub scale: f64,
    /// Share of the inputs that training drops.
    pub dropout: f64,
    /// What tells its dropout masks from those of other adapters.
    pub seed: u64,
}

impl<B: LlamaBackend> Adapter<B> {
    /// `x` `[tokens, in]` to `[tokens, out]`; `dropout` is the seed of a training pass.
    pub fn forward(&self, x: Tensor<B, 2>, dropout: Option<u64>) -> Tensor<B, 2> {
        let a = factor(&self.lora_a, &x);
        let x = self.dropped(x, dropout);
        self.raised(tensor(B::project(primitive(x), primitive(a))))
    }

    /// [`Self::forward`] of `silu(gate) * up`, of which the backward pass keeps gate and up alone.
    pub fn forward_gated(&self, gate: Tensor<B, 2>, up: Tensor<B, 2>, dropout: Option<u64>) -> Tensor<B, 2> {
        let a = factor(&self.lora_a, &gate);
        // A factor of the product is a factor of `up`.
        let up = self.dropped(up, dropout);
        self.raised(tensor(B::swiglu_project(primitive(gate), primitive(up), primitive(a))))
    }

    /// What the adapter adds to its weight, `scale · B A`, `[out, in]`, f32.
    pub fn delta(&self) -> Tensor<B, 2> {
        let [a, b] = [&self.lora_a, &self.lora_b].map(|factor| primitive(factor.val()));
        tensor::<B, 2>(B::product(b, a)).mul_scalar(self.scale)
    }

    fn dropped(&self, x: Tensor<B, 2>, pass: Option<u64>) -> Tensor<B, 2> {
        match pass {
            Some(pass) if self.dropout > 0.0 => {
                let dropout = Dropout { rate: self.dropout, seed: mix(self.seed ^ pass) };
                tensor(B::dropout(primitive(x), dropout))
            }
            _ => x,
        }
    }

    fn raised(&self, low: Tensor<B, 2>) -> Tensor<B, 2> {
        let b = factor(&self.lora_b, &low);
        tensor(B::project(primitive(low.mul_scalar(self.scale)), primitive(b)))
    }
}

/// A factor in the type of what it is multiplied with.
fn factor<B: LlamaBackend>(factor: &Param<Tensor<B, 2>>, x: &Tensor<B, 2>) -> Tensor<B, 2> {
    let (factor, dtype): (_, DType) = (factor.val(), x.dtype());
    if factor.dtype() == dtype { factor } else { factor.cast(dtype) }
}
