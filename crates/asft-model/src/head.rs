//! Token log-probs from hidden states, a chunk of rows at a time.
//!
//! Only scored rows come here, and no more than a chunk of rows × vocabulary ever exists; the backward pass
//! recomputes each chunk. With `p` the softmax of a row's logits, `logp = logit[label] - logsumexp(logits)`
//! and the gradient by the logits of `w · logp` is `w (onehot(label) - p)`.

use burn::tensor::{DType, Int, Tensor, TensorData, ops::FloatTensor, s};

use crate::{
    llama::index_tensor,
    ops::{LlamaBackend, primitive, tensor},
};

/// Elements of a chunk of logits: 128 MiB of f32.
const CHUNK_ELEMENTS: usize = 1 << 25;

/// Rows of a chunk for a vocabulary of `vocab_size`.
pub fn chunk_rows(vocab_size: usize) -> usize {
    (CHUNK_ELEMENTS / vocab_size).max(1)
}

/// Log-prob of each row's label: `hidden` `[rows, hidden]`, `weight` `[vocab, hidden]`, `labels` `[rows]`.
pub fn log_probs<B: LlamaBackend>(hidden: Tensor<B, 2>, weight: &Tensor<B, 2>, labels: &[u32]) -> Vec<f32> {
    log_probs_by(chunk_rows(weight.dims()[0]), hidden, weight, labels)
}

fn log_probs_by<B: LlamaBackend>(
    rows: usize,
    hidden: Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    labels: &[u32],
) -> Vec<f32> {
    let mut log_probs = Vec::with_capacity(labels.len());
    for chunk in Chunk::all(rows, &hidden, weight, labels) {
        let picked = B::label_log_probs(primitive(chunk.logits(weight)), chunk.labels.into_primitive());
        log_probs.extend(tensor::<B, 1>(picked).into_data().iter::<f32>());
    }
    log_probs
}

/// What [`backward`] gives.
#[derive(Clone, Debug)]
pub struct HeadGradients<B: LlamaBackend> {
    /// Log-prob of each row's label, as [`log_probs`] gives them.
    pub log_probs: Vec<f32>,
    /// Gradient by `hidden`, `[rows, hidden]`, in its type.
    pub hidden: Tensor<B, 2>,
    /// Gradient by `weight`, `[vocab, hidden]`, f32; `None` where it is frozen.
    pub weight: Option<Tensor<B, 2>>,
}

/// Log-probs, and the gradients by `hidden` and by `weight` of `Σ coefficients · log_probs`.
///
/// The gradient by `weight` is added to `weight_grad`, so that micro-batches accumulate in place; without it the
/// weight is frozen and none is computed.
pub fn backward<B: LlamaBackend>(
    hidden: Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    labels: &[u32],
    coefficients: &[f32],
    weight_grad: Option<Tensor<B, 2>>,
) -> HeadGradients<B> {
    backward_from(None, chunk_rows(weight.dims()[0]), hidden, weight, labels, coefficients, weight_grad)
}

/// `first_logits` are those of the first chunk, where they are there already.
fn backward_from<B: LlamaBackend>(
    mut first_logits: Option<FloatTensor<B>>,
    rows: usize,
    hidden: Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    labels: &[u32],
    coefficients: &[f32],
    weight_grad: Option<Tensor<B, 2>>,
) -> HeadGradients<B> {
    assert_eq!(labels.len(), coefficients.len(), "one coefficient a label");
    let device = weight.device();
    let mut weight_grad = weight_grad;
    let mut log_probs = Vec::with_capacity(labels.len());
    let mut hidden_grads = vec![];
    for chunk in Chunk::all(rows, &hidden, weight, labels) {
        let logits = first_logits.take().unwrap_or_else(|| primitive(chunk.logits(weight)));
        let coefficients = &coefficients[chunk.start..chunk.start + chunk.rows()];
        let coefficients = TensorData::new(coefficients.to_vec(), [chunk.rows()]);
        let coefficients = Tensor::<B, 1>::from_data(coefficients, &device);
        let labels = chunk.labels.clone().into_primitive();
        let (picked, grad) = B::label_log_probs_and_gradient(logits, labels, primitive(coefficients));
        log_probs.extend(tensor::<B, 1>(picked).into_data().iter::<f32>());
        hidden_grads.push(tensor(B::product(grad.clone(), primitive(weight.clone()))));
        weight_grad = weight_grad.map(|sum| {
            let [sum, lhs, rhs] = [sum, tensor(grad).transpose(), chunk.hidden].map(primitive);
            tensor(B::add_product(sum, lhs, rhs))
        });
    }
    let hidden = match hidden_grads.is_empty() {
        true => hidden.zeros_like(),
        false => Tensor::cat(hidden_grads, 0),
    };
    HeadGradients { log_probs, hidden, weight: weight_grad }
}

/// [`backward`] where the coefficients follow from the log-probs: `coefficients` is given those of all rows and
/// returns one a row. Rows that fit into one chunk get their logits made once for both; more rows make them again.
pub fn backward_by_log_probs<B: LlamaBackend, E>(
    hidden: Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    labels: &[u32],
    weight_grad: Option<Tensor<B, 2>>,
    coefficients: impl FnOnce(&[f32]) -> Result<Vec<f32>, E>,
) -> Result<HeadGradients<B>, E> {
    let rows = chunk_rows(weight.dims()[0]);
    backward_by_log_probs_by(rows, hidden, weight, labels, weight_grad, coefficients)
}

fn backward_by_log_probs_by<B: LlamaBackend, E>(
    rows: usize,
    hidden: Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    labels: &[u32],
    weight_grad: Option<Tensor<B, 2>>,
    coefficients: impl FnOnce(&[f32]) -> Result<Vec<f32>, E>,
) -> Result<HeadGradients<B>, E> {
    let one_chunk = labels.len() <= rows;
    let mut kept = None;
    let mut log_probs = Vec::with_capacity(labels.len());
    for chunk in Chunk::all(rows, &hidden, weight, labels) {
        let logits = primitive(chunk.logits(weight));
        if one_chunk {
            kept = Some(logits.clone());
        }
        let picked = B::label_log_probs(logits, chunk.labels.into_primitive());
        log_probs.extend(tensor::<B, 1>(picked).into_data().iter::<f32>());
    }
    let coefficients = coefficients(&log_probs)?;
    // An objective may score answers that it does not train on.
    if coefficients.iter().all(|&coefficient| coefficient == 0.0) {
        return Ok(HeadGradients { log_probs, hidden: hidden.zeros_like(), weight: weight_grad });
    }
    Ok(backward_from(kept, rows, hidden, weight, labels, &coefficients, weight_grad))
}

/// The gradient by `weight` before the first rows: zeros, f32.
pub fn no_gradient<B: LlamaBackend>(weight: &Tensor<B, 2>) -> Tensor<B, 2> {
    Tensor::zeros(weight.dims(), (&weight.device(), DType::F32))
}

struct Chunk<B: LlamaBackend> {
    start: usize,
    hidden: Tensor<B, 2>,
    labels: Tensor<B, 1, Int>,
}

impl<B: LlamaBackend> Chunk<B> {
    fn all<'a>(
        rows: usize,
        hidden: &'a Tensor<B, 2>,
        weight: &'a Tensor<B, 2>,
        labels: &'a [u32],
    ) -> impl Iterator<Item = Self> + 'a {
        let [vocab_size, width] = weight.dims();
        assert_eq!(hidden.dims(), [labels.len(), width], "scored hidden states");
        (0..labels.len()).step_by(rows).map(move |start| {
            let end = labels.len().min(start + rows);
            Self {
                start,
                hidden: hidden.clone().slice(s![start..end]),
                labels: index_tensor(&labels[start..end], vocab_size, &weight.device()),
            }
        })
    }

    fn rows(&self) -> usize {
        self.hidden.dims()[0]
    }

    fn logits(&self, weight: &Tensor<B, 2>) -> Tensor<B, 2> {
        tensor(B::project(primitive(self.hidden.clone()), primitive(weight.clone())))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::{
        backend::{Autodiff, Flex},
        tensor::{Distribution, activation::log_softmax},
    };

    use super::*;

    type A = Autodiff<Flex>;

    const ROWS: usize = 23;
    const VOCAB: usize = 11;
    const WIDTH: usize = 5;

    fn close(got: Tensor<Flex, 2>, expected: Tensor<Flex, 2>) {
        assert_eq!((got.dims(), got.dtype()), (expected.dims(), DType::F32));
        let difference = (got - expected).abs().max().into_scalar();
        assert!(difference < 1e-5, "{difference}");
    }

    #[test]
    fn chunks_give_what_autodiff_gives_in_one_piece() {
        let device = Default::default();
        let random =
            |shape: [usize; 2]| Tensor::<Flex, 2>::random(shape, Distribution::Normal(0., 1.), &device);
        let (hidden, weight, before) =
            (random([ROWS, WIDTH]), random([VOCAB, WIDTH]), random([VOCAB, WIDTH]));
        // Every label, some of them several times, and coefficients of both signs.
        let labels: Vec<u32> = (0..ROWS as u32).map(|row| row * 7 % VOCAB as u32).collect();
        let coefficients: Vec<f32> = (0..ROWS).map(|row| row as f32 / 10.0 - 1.0).collect();

        let [h, w] = [&hidden, &weight].map(|t| Tensor::<A, 2>::from_inner(t.clone()).require_grad());
        let picked = log_softmax(h.clone().matmul(w.clone().transpose()), 1)
            .gather(1, index_tensor::<A>(&labels, VOCAB, &device).unsqueeze_dim(1));
        let column = TensorData::new(coefficients.clone(), [ROWS, 1]);
        let gradients = (picked.clone() * Tensor::<A, 2>::from_data(column, &device)).sum().backward();
        let expected: Vec<f32> = picked.into_data().to_vec().unwrap();
        let [by_hidden, by_weight] = [h, w].map(|t| t.grad(&gradients).unwrap());

        // Rows of a chunk: one, some with a rest, all, more than there are.
        for rows in [1, 4, ROWS, 2 * ROWS] {
            let got = log_probs_by(rows, hidden.clone(), &weight, &labels);
            assert_eq!(got.len(), ROWS);
            for (got, expected) in got.iter().zip(&expected) {
                assert!((got - expected).abs() < 1e-5, "{rows} rows a chunk: {got} against {expected}");
            }
            let backward =
                |before| backward_from(None, rows, hidden.clone(), &weight, &labels, &coefficients, before);
            let frozen = backward(None);
            assert!(frozen.weight.is_none());
            let fresh = backward(Some(no_gradient(&weight)));
            assert_eq!(frozen.hidden.into_data(), fresh.hidden.clone().into_data(), "{rows} rows a chunk");
            assert_eq!(fresh.log_probs, got, "{rows} rows a chunk");
            close(fresh.hidden, by_hidden.clone());
            close(fresh.weight.unwrap(), by_weight.clone());
            let summed = backward(Some(before.clone()));
            close(summed.hidden, by_hidden.clone());
            close(summed.weight.unwrap(), before.clone() + by_weight.clone());

            let by_log_probs = |coefficients: Vec<f32>| {
                let given = |log_probs: &[f32]| match log_probs == got {
                    true => Ok(coefficients),
                    false => Err(log_probs.to_vec()),
                };
                let (hidden, before) = (hidden.clone(), Some(before.clone()));
                backward_by_log_probs_by(rows, hidden, &weight, &labels, before, given).unwrap()
            };
            let scored = by_log_probs(coefficients.clone());
            assert_eq!(scored.log_probs, got, "{rows} rows a chunk");
            close(scored.hidden, by_hidden.clone());
            close(scored.weight.unwrap(), before.clone() + by_weight.clone());
            let untrained = by_log_probs(vec![0.0; ROWS]);
            close(untrained.hidden, hidden.zeros_like());
            close(untrained.weight.unwrap(), before.clone());
        }
    }

    #[test]
    fn a_chunk_of_logits_fits_its_bound() {
        for (vocab_size, rows) in [(1 << 15, 1 << 10), (128_256, 261), (1 << 25, 1), (1 << 26, 1)] {
            assert_eq!(chunk_rows(vocab_size), rows, "{vocab_size} tokens");
        }
    }

    #[test]
    fn no_scored_row_gives_zeros() {
        let device = Default::default();
        let (hidden, weight) =
            (Tensor::<Flex, 2>::zeros([0, WIDTH], &device), Tensor::ones([VOCAB, WIDTH], &device));
        assert_eq!(log_probs(hidden.clone(), &weight, &[]), [0.0; 0]);
        let gradients = backward(hidden, &weight, &[], &[], Some(no_gradient(&weight)));
        assert_eq!((gradients.hidden.dims(), gradients.log_probs.len()), ([0, WIDTH], 0));
        close(gradients.weight.unwrap(), weight.zeros_like());
    }
}
