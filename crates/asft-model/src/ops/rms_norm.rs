//! Root-mean-square normalisation (arXiv 1910.07467), computed in f32.

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::{DType, Tensor, TensorMetadata, backend::Backend, ops::FloatTensor},
};

use super::{LlamaBackend, primitive, tensor};

/// `x · r · weight` with `r = 1 / sqrt(mean(x²) + eps)` of each row.
pub fn forward<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>, eps: f64) -> FloatTensor<B> {
    let dtype = x.dtype();
    let x = tensor::<B, 2>(x).cast(DType::F32);
    let weight = tensor::<B, 1>(weight).cast(DType::F32).unsqueeze::<2>();
    let scale = reciprocal_root(x.clone(), eps);
    primitive(((x * scale) * weight).cast(dtype))
}

/// With `g = dy · weight`: `dx = r g - x r³ mean(x g)` and `dweight = Σ dy x r` over the rows.
pub fn backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    eps: f64,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 2] {
    let (x_type, weight_type) = (x.dtype(), weight.dtype());
    let [x, grad] = [x, grad].map(|t| tensor::<B, 2>(t).cast(DType::F32));
    let weight = tensor::<B, 1>(weight).cast(DType::F32).unsqueeze::<2>();
    let scale = reciprocal_root(x.clone(), eps);
    let by_weight = (grad.clone() * x.clone() * scale.clone()).sum_dim(0).squeeze_dim::<1>(0);
    let grad = grad * weight;
    let mean = (x.clone() * grad.clone()).mean_dim(1);
    let by_x = grad * scale.clone() - x * (scale.powi_scalar(3) * mean);
    [primitive(by_x.cast(x_type)), primitive(by_weight.cast(weight_type))]
}

fn reciprocal_root<B: Backend>(x: Tensor<B, 2>, eps: f64) -> Tensor<B, 2> {
    (x.clone() * x).mean_dim(1).add_scalar(eps).sqrt().recip()
}

#[derive(Debug)]
struct RmsNorm;

impl<B: LlamaBackend> Backward<B, 2> for RmsNorm {
    type State = (FloatTensor<B>, FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, weight, eps) = ops.state;
        let gradients = B::rms_norm_backward(x, weight, eps, grad);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub fn tracked<B: LlamaBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    eps: f64,
) -> FloatTensor<Autodiff<B, C>> {
    let state = (x.primitive.clone(), weight.primitive.clone(), eps);
    let out = B::rms_norm(x.primitive.clone(), weight.primitive.clone(), eps);
    match RmsNorm.prepare::<C>([x.node.clone(), weight.node.clone()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(state, out),
        OpsKind::UnTracked(prep) => prep.finish(out),
    }
}
