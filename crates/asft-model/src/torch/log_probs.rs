//! See [`crate::LlamaBackend::label_log_probs`].

use std::ops::Range;

use burn::backend::libtorch::TchTensor;
use tch::{Kind, Tensor};

/// Elements that are in f32 at a time: they stay in the cache from the softmax to the gradient.
const BLOCK: i64 = 1 << 21;

pub fn forward(logits: &Tensor, labels: &Tensor) -> TchTensor {
    let picked: Vec<Tensor> = blocks(logits)
        .map(|rows| pick(&part(logits, &rows).log_softmax(1, Kind::Float), &part(labels, &rows)))
        .collect();
    TchTensor::new(Tensor::cat(&picked, 0))
}

/// The gradient takes the place of the logits where nobody else holds them.
pub fn forward_and_gradient(
    logits: TchTensor,
    labels: &Tensor,
    coefficients: &Tensor,
) -> (TchTensor, TchTensor) {
    let gradient = match logits.can_mut() {
        true => logits,
        false => TchTensor::new(logits.tensor.copy()),
    };
    let mut picked = vec![];
    for rows in blocks(&gradient.tensor) {
        let labels = part(labels, &rows);
        let coefficients = part(coefficients, &rows).unsqueeze(1);
        let mut target = part(&gradient.tensor, &rows);
        let mut log_probs = target.log_softmax(1, Kind::Float);
        picked.push(pick(&log_probs, &labels));
        let mut by_logits = log_probs.exp_().g_mul_(&coefficients.neg());
        target.copy_(&by_logits.scatter_add_(1, &labels.unsqueeze(1), &coefficients));
    }
    (TchTensor::new(Tensor::cat(&picked, 0)), gradient)
}

fn pick(log_probs: &Tensor, labels: &Tensor) -> Tensor {
    log_probs.gather(1, &labels.unsqueeze(1), false).squeeze_dim(1)
}

fn blocks(logits: &Tensor) -> impl Iterator<Item = Range<i64>> + use<> {
    let (rows, vocab) = logits.size2().expect("logits have rows and a vocabulary");
    let step = (BLOCK / vocab.max(1)).max(1);
    (0..rows).step_by(step as usize).map(move |start| start..rows.min(start + step))
}

fn part(t: &Tensor, rows: &Range<i64>) -> Tensor {
    t.narrow(0, rows.start, rows.end - rows.start)
}
