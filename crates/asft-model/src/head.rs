//! Token log-probs from hidden states, a chunk of rows at a time.
//!
//! Only scored rows come here, and no more than a chunk of rows × vocabulary ever exists; the backward pass
//! recomputes each chunk. With `p` the softmax of a row's logits, `logp = logit[label] - logsumexp(logits)`
//! and the gradient by the logits of `w · logp` is `w (onehot(label) - p)`.

use burn::tensor::{
    DType, IndexingUpdateOp, Int, Tensor, TensorData, activation::log_softmax, backend::Backend, s,
};

use crate::llama::index_tensor;

/// Elements of a chunk of logits: 128 MiB of f32.
const CHUNK_ELEMENTS: usize = 1 << 25;

/// Rows of a chunk for a vocabulary of `vocab_size`.
pub fn chunk_rows(vocab_size: usize) -> usize {
    (CHUNK_ELEMENTS / vocab_size).max(1)
}

/// Log-prob of each row's label: `hidden` `[rows, hidden]`, `weight` `[vocab, hidden]`, `labels` `[rows]`.
pub fn log_probs<B: Backend>(hidden: Tensor<B, 2>, weight: &Tensor<B, 2>, labels: &[u32]) -> Vec<f32> {
    let mut log_probs = Vec::with_capacity(labels.len());
    for chunk in Chunk::all(&hidden, weight, labels) {
        let picked = log_softmax(chunk.logits(weight), 1).gather(1, chunk.labels);
        log_probs.extend(picked.into_data().iter::<f32>());
    }
    log_probs
}

/// Gradients by `hidden` and by `weight` of `Σ coefficients · log_probs`, both f32.
///
/// The gradient by `weight` is added to `weight_grad`, so that micro-batches accumulate in place.
pub fn log_probs_backward<B: Backend>(
    hidden: Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    labels: &[u32],
    coefficients: &[f32],
    weight_grad: Option<Tensor<B, 2>>,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    assert_eq!(labels.len(), coefficients.len(), "one coefficient a label");
    let device = weight.device();
    let mut weight_grad = weight_grad;
    let mut hidden_grads = vec![];
    for chunk in Chunk::all(&hidden, weight, labels) {
        let coefficients = &coefficients[chunk.start..chunk.start + chunk.rows()];
        let coefficients =
            Tensor::<B, 2>::from_data(TensorData::new(coefficients.to_vec(), [chunk.rows(), 1]), &device);
        let logits = chunk.logits(weight);
        let grad = (burn::tensor::activation::softmax(logits, 1) * coefficients.clone().neg()).scatter(
            1,
            chunk.labels.clone(),
            coefficients,
            IndexingUpdateOp::Add,
        );
        hidden_grads.push(grad.clone().matmul(weight.clone().cast(DType::F32)));
        let part = grad.transpose().matmul(chunk.hidden.cast(DType::F32));
        weight_grad = Some(match weight_grad.take() {
            Some(sum) => sum + part,
            None => part,
        });
    }
    let hidden_grad = match hidden_grads.is_empty() {
        true => hidden.zeros_like(),
        false => Tensor::cat(hidden_grads, 0),
    };
    (hidden_grad, weight_grad.unwrap_or_else(|| weight.zeros_like()))
}

struct Chunk<B: Backend> {
    start: usize,
    hidden: Tensor<B, 2>,
    labels: Tensor<B, 2, Int>,
}

impl<B: Backend> Chunk<B> {
    fn all<'a>(
        hidden: &'a Tensor<B, 2>,
        weight: &'a Tensor<B, 2>,
        labels: &'a [u32],
    ) -> impl Iterator<Item = Self> + 'a {
        let [vocab_size, width] = weight.dims();
        assert_eq!(hidden.dims(), [labels.len(), width], "scored hidden states");
        let rows = chunk_rows(vocab_size);
        (0..labels.len()).step_by(rows).map(move |start| {
            let end = labels.len().min(start + rows);
            Self {
                start,
                hidden: hidden.clone().slice(s![start..end]),
                labels: index_tensor(&labels[start..end], vocab_size, &weight.device()).unsqueeze_dim(1),
            }
        })
    }

    fn rows(&self) -> usize {
        self.hidden.dims()[0]
    }

    fn logits(&self, weight: &Tensor<B, 2>) -> Tensor<B, 2> {
        self.hidden.clone().matmul(weight.clone().transpose()).cast(DType::F32)
    }
}
