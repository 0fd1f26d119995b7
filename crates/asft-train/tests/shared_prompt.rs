//! A pair that holds its prompt once has the gradients of two sequences that each repeat it.

use std::{collections::BTreeMap, path::Path};

use asft_core::{Objective, StepNorm};
use asft_data::{EncodedPair, Origin, PairBatch};
use asft_model::{Llama, checkpoint::Checkpoint, parameters};
use asft_train::{
    Phases,
    engine::{self, MicroBatch},
    gradients::Gradients,
};
use burn::{
    backend::{Autodiff, Flex},
    module::AutodiffModule,
};

type A = Autodiff<Flex>;

/// Gradients by path, with the derivatives by the two answers' sums.
fn gradients(
    model: &Llama<A>,
    checkpoint: &Checkpoint,
    objective: &str,
    pair: EncodedPair,
) -> (BTreeMap<String, Vec<f64>>, [f64; 2]) {
    let batch = PairBatch::new([&pair]);
    let objective = Objective::by_name(objective).unwrap();
    let micro_batch = MicroBatch {
        batch: &batch,
        objective: &objective,
        norm: &StepNorm { pairs: 1, nll_tokens: 1 },
        references: &[],
        segments: 2,
        dropout: None,
    };
    let mut gradients = Gradients::default();
    let (config, mut phases) = (checkpoint.config(), Phases::default());
    let losses =
        engine::accumulate(model, config, micro_batch, &mut gradients, &mut phases, &Default::default())
            .unwrap();
    let mut by_path = BTreeMap::new();
    parameters::for_each(&model.valid(), |path, _, _| {
        by_path.insert(path.to_owned(), gradients.take(path).unwrap().into_data().iter::<f64>().collect());
    });
    (by_path, [losses[0].grad.chosen, losses[0].grad.rejected])
}

#[test]
fn gradients_of_a_shared_prompt_are_those_of_two_sequences() {
    for name in ["llama3", "llama31_tied"] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../asft-model/tests/goldens").join(name);
        let mut checkpoint = Checkpoint::open(&directory).unwrap();
        let config = checkpoint.config().clone();
        let model = Llama::<A>::load(&config, checkpoint.weights(), &Default::default()).unwrap();
        let ids = |from: u32, length: u32| (0..length).map(|i| (from + 37 * i) % 500).collect::<Vec<u32>>();
        let pair = EncodedPair {
            origin: Origin { file: directory.into(), row: 1 },
            prompt: ids(3, 40),
            chosen: ids(11, 30),
            rejected: ids(70, 55),
        };
        let (shared, coefficients) = gradients(&model, &checkpoint, "asft", pair.clone());
        // SFT's derivative by the sum is -1/T, so its gradients, scaled by -T times the pair's derivative, add up
        // to the pair's.
        let alone =
            |answer: &Vec<u32>| EncodedPair { chosen: answer.clone(), rejected: vec![], ..pair.clone() };
        let answers = [&pair.chosen, &pair.rejected];
        let separate = answers.map(|answer| gradients(&model, &checkpoint, "sft", alone(answer)).0);
        let scales = [0, 1].map(|i| -coefficients[i] * answers[i].len() as f64);
        assert!(scales[0] > 1.0 && scales[1] < 0.0, "{scales:?}");
        for (path, shared) in &shared {
            let largest = shared.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
            assert!(largest > 0.0, "{path} has no gradient");
            for (index, shared) in shared.iter().enumerate() {
                let sum = scales[0] * separate[0][path][index] + scales[1] * separate[1][path][index];
                assert!(
                    (shared - sum).abs() <= 1e-5 * largest,
                    "{name}, {path}[{index}]: {shared} against {sum}"
                );
            }
        }
    }
}
