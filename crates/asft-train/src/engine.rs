//! Loss and gradients of a micro-batch, with no more than one segment of blocks under autodiff at a time.

use std::ops::Range;

use asft_core::{Objective, PairError, PairLoss, PairScores, ReferenceSums, StepNorm};
use asft_data::PairBatch;
use asft_model::{Block, Llama, LlamaBackend, LlamaConfig, Stream, TrainBackend, head, parameters};
use burn::{
    module::AutodiffModule,
    tensor::{DType, Int, Tensor, backend::AutodiffBackend},
};

use crate::{
    gradients::Gradients,
    head_pass::{HeadPass, row_index, scores},
    phases::Phases,
};

/// Scores of each pair of a micro-batch under a model without gradients. `prompts` asks for the prompt's
/// log-probs too.
pub fn score<B: LlamaBackend>(
    model: &Llama<B>,
    config: &LlamaConfig,
    batch: &PairBatch,
    prompts: bool,
    device: &B::Device,
) -> Vec<PairScores> {
    let stream = Stream::new(config, batch, device);
    let scored = batch.scored(prompts);
    let hidden = model.hidden_states(&batch.token_ids, &stream);
    let rows = hidden.select(0, row_index::<B>(&scored.rows, device));
    let log_probs = head::log_probs(rows, &model.head_weight(), &scored.labels);
    scored.pairs.iter().map(|pair| scores(pair, &log_probs)).collect()
}

/// What a micro-batch is to be trained with.
#[derive(Clone, Copy, Debug)]
pub struct MicroBatch<'a> {
    /// The pairs.
    pub batch: &'a PairBatch,
    /// The loss.
    pub objective: &'a Objective,
    /// Divisors of the whole optimizer step.
    pub norm: &'a StepNorm,
    /// Each pair's sums under the reference model; empty where the objective needs none.
    pub references: &'a [ReferenceSums],
    /// Segments of blocks: the first, of one block each, are recomputed in the backward pass, the last, which holds all
    /// other blocks, is not.
    pub segments: usize,
    /// Seed of the adapters' dropout, where there is any.
    pub dropout: Option<u64>,
}

/// Forward and backward pass of one micro-batch: adds its part of the step's gradient to `gradients` and
/// returns each pair's part of the step's loss.
pub fn accumulate<A: TrainBackend>(
    model: &Llama<A>,
    config: &LlamaConfig,
    micro_batch: MicroBatch<'_>,
    gradients: &mut Gradients<A::InnerBackend>,
    phases: &mut Phases,
    device: &A::Device,
) -> Result<Vec<PairLoss>, PairError> {
    let (mut passage, losses) = Passage::begin(model, config, micro_batch, gradients, phases, device)?;
    phases.time::<A, _>("backward", device, || {
        while passage.back(model, gradients).is_some() {}
        passage.end(model, gradients, device);
    });
    Ok(losses)
}

/// A micro-batch on its way back: where its gradient has come to, and the inputs of the segments before.
#[derive(Clone, Debug)]
pub struct Passage<A: TrainBackend> {
    ids: Tensor<A::InnerBackend, 1, Int>,
    stream: Stream<A>,
    /// Blocks and inputs of the segments that are still to be gone back through.
    rest: Vec<(Range<usize>, Tensor<A::InnerBackend, 2>)>,
    /// d loss / d what comes out of them, `[tokens, hidden]`.
    gradient: Tensor<A::InnerBackend, 2>,
}

impl<A: TrainBackend> Passage<A> {
    /// Forward through all blocks and the head, and back through the head and the last segment, whose gradients are added
    /// to `gradients`.
    ///
    /// Blocks before the last segment run without autodiff and leave only their segment's input behind. The head
    /// gives scores, losses and the gradient by its input; from there the gradient walks back through the norm and
    /// one segment after the other. Parameters that are not tracked get no gradient.
    pub fn begin(
        model: &Llama<A>,
        config: &LlamaConfig,
        micro_batch: MicroBatch<'_>,
        gradients: &mut Gradients<A::InnerBackend>,
        phases: &mut Phases,
        device: &A::Device,
    ) -> Result<(Self, Vec<PairLoss>), PairError> {
        let MicroBatch { batch, objective, norm, references, segments, dropout } = micro_batch;
        let frozen = model.valid();
        let stream = Stream { dropout, ..Stream::new(config, batch, device) };
        let tracked = stream.tracked::<A>();
        let ids = frozen.ids(&batch.token_ids);

        let mut segments = segment_ranges(model.model.layers.len(), segments);
        let last = segments.pop().expect("a model has at least one block");
        let mut rest = Vec::with_capacity(segments.len());
        let (leaf, y) = phases.time::<A, _>("forward", device, || {
            let mut x = frozen.embed(ids.clone());
            for segment in segments {
                rest.push((segment.clone(), x.clone()));
                x = frozen.model.layers[segment].iter().fold(x, |x, block| block.forward(x, &stream));
            }
            tracked_forward(&model.model.layers[last.clone()], x, &tracked)
        });

        let (losses, weighted) = phases.time::<A, _>("head", device, || {
            let scored = batch.scored(objective.needs_prompt_scores());
            let head = HeadPass::new(scored, objective, norm, references);
            let rows = model.model.norm.forward(y).select(0, row_index::<A>(head.rows(), device));
            let weight = frozen.head_weight();
            let head_path = model.head_weight_path();
            let sum = model.head_weight().is_require_grad().then(|| match gradients.take(head_path) {
                Some(sum) => sum.reshape(weight.dims()),
                None => head::no_gradient(&weight),
            });
            let passed = head.run(rows.clone().inner(), &weight, sum)?;
            if let Some(sum) = passed.weight_grad {
                gradients.set(head_path, sum.reshape([weight.shape().num_elements()]));
            }
            Ok((passed.losses, rows * Tensor::from_inner(passed.hidden_grad)))
        })?;
        let gradient = phases.time::<A, _>("backward", device, || {
            let mut grads = weighted.backward();
            parameters::take_gradients(&model.model.norm, "model.norm", &mut grads, |path, grad| {
                gradients.add(path, grad)
            });
            collect(model, last, leaf, &mut grads, gradients)
        });
        Ok((Self { ids, stream: tracked, rest, gradient }, losses))
    }

    /// Goes back through one segment more, whose blocks are returned; `None` where none is left. Its gradients are added
    /// to `gradients`.
    pub fn back(
        &mut self,
        model: &Llama<A>,
        gradients: &mut Gradients<A::InnerBackend>,
    ) -> Option<Range<usize>> {
        let (segment, input) = self.rest.pop()?;
        let (leaf, y) = tracked_forward(&model.model.layers[segment.clone()], input, &self.stream);
        let mut grads = (y * Tensor::from_inner(self.gradient.clone())).backward();
        self.gradient = collect(model, segment.clone(), leaf, &mut grads, gradients);
        Some(segment)
    }

    /// Adds the gradient of the embedding, to which all segments have to have been gone back.
    pub fn end(self, model: &Llama<A>, gradients: &mut Gradients<A::InnerBackend>, device: &A::Device) {
        assert!(self.rest.is_empty(), "the gradient has not come to the embedding");
        let embedding = model.model.embed_tokens.weight.val();
        if !embedding.is_require_grad() {
            return;
        }
        let (shape, length) = (embedding.dims(), embedding.shape().num_elements());
        let sum = gradients
            .take(EMBEDDING)
            .map_or_else(|| Tensor::zeros(shape, (device, DType::F32)), |sum| sum.reshape(shape));
        let sum = A::InnerBackend::add_rows(sum, self.ids, self.gradient);
        gradients.set(EMBEDDING, sum.reshape([length]));
    }
}

/// Path of the embedding, which with tied weights is the head too.
pub const EMBEDDING: &str = "model.embed_tokens.weight";

/// Splits `layers` blocks into `segments` runs, all but the last of one block: an input costs a fraction of a block's
/// insides, so longer runs would save less, and what fits is kept.
pub fn segment_ranges(layers: usize, segments: usize) -> Vec<Range<usize>> {
    let alone = segments.clamp(1, layers.max(1)) - 1;
    (0..alone).map(|block| block..block + 1).chain(std::iter::once(alone..layers)).collect()
}

/// Runs blocks under autodiff from a fresh leaf, which is returned with their output.
fn tracked_forward<A: TrainBackend>(
    blocks: &[Block<A>],
    x: Tensor<A::InnerBackend, 2>,
    stream: &Stream<A>,
) -> (Tensor<A, 2>, Tensor<A, 2>) {
    let leaf = Tensor::<A, 2>::from_inner(x).require_grad();
    let y = blocks.iter().fold(leaf.clone(), |x, block| block.forward(x, stream));
    (leaf, y)
}

/// Moves the gradients of a segment's blocks into the sums and returns the one of its input.
fn collect<A: TrainBackend>(
    model: &Llama<A>,
    segment: Range<usize>,
    leaf: Tensor<A, 2>,
    grads: &mut <A as AutodiffBackend>::Gradients,
    gradients: &mut Gradients<A::InnerBackend>,
) -> Tensor<A::InnerBackend, 2> {
    for layer in segment {
        let prefix = format!("model.layers.{layer}");
        parameters::take_gradients(&model.model.layers[layer], &prefix, grads, |path, grad| {
            gradients.add(path, grad)
        });
    }
    leaf.grad_remove(grads).expect("the input of a segment is a tracked leaf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_the_layers() {
        for layers in 1..40 {
            for segments in 1..45 {
                let ranges = segment_ranges(layers, segments);
                assert_eq!(ranges.len(), segments.min(layers));
                assert!(ranges[..ranges.len() - 1].iter().all(|range| range.len() == 1));
                let covered: Vec<usize> = ranges.into_iter().flatten().collect();
                assert_eq!(covered, (0..layers).collect::<Vec<_>>());
            }
        }
    }
}
