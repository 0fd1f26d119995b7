//! Log-softmax at one label a row, and its gradient: `d logp / d logits = onehot(label) - softmax`.

use burn::tensor::{
    DType, IndexingUpdateOp, Int, Tensor, TensorMetadata,
    activation::log_softmax,
    backend::Backend,
    ops::{FloatTensor, IntTensor},
};

use super::{primitive, tensor};

pub fn forward<B: Backend>(logits: FloatTensor<B>, labels: IntTensor<B>) -> FloatTensor<B> {
    let picked = log_softmax(tensor::<B, 2>(logits).cast(DType::F32), 1).gather(1, column::<B>(labels));
    primitive(picked.squeeze_dim::<1>(1))
}

pub fn forward_and_gradient<B: Backend>(
    logits: FloatTensor<B>,
    labels: IntTensor<B>,
    coefficients: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (labels, dtype) = (column::<B>(labels), logits.dtype());
    let coefficients = tensor::<B, 1>(coefficients).unsqueeze_dim::<2>(1);
    let log_probs = log_softmax(tensor::<B, 2>(logits).cast(DType::F32), 1);
    let picked = log_probs.clone().gather(1, labels.clone()).squeeze_dim::<1>(1);
    let gradient = (log_probs.exp() * coefficients.clone().neg()).scatter(
        1,
        labels,
        coefficients,
        IndexingUpdateOp::Add,
    );
    (primitive(picked), primitive(gradient.cast(dtype)))
}

fn column<B: Backend>(labels: IntTensor<B>) -> Tensor<B, 2, Int> {
    Tensor::<B, 1, Int>::from_primitive(labels).unsqueeze_dim(1)
}
