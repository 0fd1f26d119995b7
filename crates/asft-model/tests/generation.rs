//! Greedy generation against transformers (`goldens/generation.py`) and against the model without kept keys.
#![cfg(feature = "flex")]

#[allow(dead_code, reason = "scores are not asked for here")]
mod scoring;

use std::{cell::RefCell, collections::BTreeSet, ops::ControlFlow};

use asft_data::{EncodedPair, Origin, PairBatch, Tokenizer};
use asft_model::{
    Llama, LlamaConfig, Stream,
    checkpoint::Checkpoint,
    generate::{Event, Finish, Generated, Generator, Request, Sampling},
};
use burn::{
    backend::Flex,
    tensor::{Tensor, TensorData},
};
use scoring::{golden, pairs};

struct Loaded {
    model: Llama<Flex>,
    config: LlamaConfig,
    stop: BTreeSet<u32>,
    prompts: Vec<Vec<u32>>,
}

fn load(name: &str) -> Loaded {
    let golden = golden(name);
    let mut checkpoint = Checkpoint::open(&golden).unwrap();
    let config = checkpoint.config().clone();
    let model = Llama::load(&config, checkpoint.weights(), &Default::default()).unwrap();
    let stop = Tokenizer::from_model(&golden).unwrap().end_of_turn_ids().clone();
    let prompts = pairs(&golden).into_iter().map(|(pair, _)| pair.prompt).collect();
    Loaded { model, config, stop, prompts }
}

impl Loaded {
    fn requests(&self, max_new_tokens: usize, sampling: Sampling) -> Vec<Request> {
        let request = |prompt: &Vec<u32>| Request { prompt: prompt.clone(), max_new_tokens, sampling };
        self.prompts.iter().map(request).collect()
    }

    fn generate(&self, requests: &[Request], batch: usize) -> Vec<Generated> {
        let generator = Generator::new(&self.model, &self.config, &self.stop);
        let mut done = vec![None; requests.len()];
        let mut told = vec![vec![]; requests.len()];
        let flow = generator.run(&mut requests.iter().cloned().enumerate(), batch, &mut |event| {
            match event {
                Event::Token(request, token) => told[request].push(token),
                Event::Done(request, generated) => done[request] = Some(generated),
            }
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        let done: Vec<Generated> = done.into_iter().map(Option::unwrap).collect();
        assert!(done.iter().zip(&told).all(|(done, told)| done.tokens == *told));
        done
    }
}

#[test]
fn greedy_ids_are_those_of_transformers() {
    let text = std::fs::read_to_string(golden("generated.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    for name in ["llama3", "llama31_tied", "head_dim", "sharded"] {
        let loaded = load(name);
        let expected: Vec<Vec<u32>> = serde_json::from_value(expected["models"][name].clone()).unwrap();
        assert_eq!(expected.len(), 8);
        let requests = loaded.requests(24, Sampling::GREEDY);
        for batch in [1, 3, 8] {
            for (index, (got, expected)) in
                loaded.generate(&requests, batch).iter().zip(&expected).enumerate()
            {
                assert_eq!(got.tokens, *expected, "{name}, prompt {index}, batch of {batch}");
                let ended = expected.last().is_some_and(|id| loaded.stop.contains(id));
                assert_eq!(got.finish, if ended { Finish::EndOfTurn } else { Finish::Length });
            }
        }
    }
}

/// Long enough that caches grow, and up to the last position of the model.
#[test]
fn kept_keys_give_what_the_whole_stream_gives() {
    let mut loaded = load("llama3");
    loaded.stop.clear();
    let mut requests = loaded.requests(100_000, Sampling::GREEDY);
    requests.truncate(2);
    for (request, generated) in requests.iter().zip(loaded.generate(&requests, 2)) {
        assert_eq!(request.prompt.len() + generated.tokens.len(), loaded.config.max_position_embeddings);
        assert_eq!(generated.finish, Finish::Length);
        let pair = EncodedPair {
            origin: Origin { file: golden("llama3").into(), row: 1 },
            prompt: request.prompt.clone(),
            chosen: generated.tokens.clone(),
            rejected: vec![],
        };
        let batch = PairBatch::new([&pair]);
        let device = Default::default();
        let stream = Stream::new(&loaded.config, &batch, &device);
        let hidden = loaded.model.hidden_states(&batch.token_ids, &stream);
        let logits = hidden.matmul(loaded.model.head_weight().transpose());
        for (step, &token) in generated.tokens.iter().enumerate() {
            let row = request.prompt.len() + step - 1;
            let index = Tensor::from_data(TensorData::new(vec![row as i32], [1]), &device);
            let row: Vec<f32> = logits.clone().select(0, index).into_data().to_vec().unwrap();
            let greatest = row.iter().copied().fold(f32::MIN, f32::max);
            assert!(
                row[token as usize] > greatest - 1e-3,
                "step {step}: {} of {greatest}",
                row[token as usize]
            );
        }
    }
}

#[test]
fn draws_depend_on_the_seed_and_not_on_the_batch() {
    let loaded = load("llama3");
    let sampling = |seed| Sampling { temperature: 1.0, top_k: 50, top_p: 0.9, seed };
    let requests = loaded.requests(12, sampling(5));
    let alone = loaded.generate(&requests, 1);
    assert_eq!(alone, loaded.generate(&requests, 8));
    assert_ne!(alone, loaded.generate(&loaded.requests(12, sampling(6)), 8));
    assert_ne!(alone, loaded.generate(&loaded.requests(12, Sampling::GREEDY), 8));
}

#[test]
fn an_observer_may_break_it_off() {
    let loaded = load("llama3");
    let generator = Generator::new(&loaded.model, &loaded.config, &loaded.stop);
    let mut tokens = 0;
    let requests = loaded.requests(24, Sampling::GREEDY);
    let flow = generator.run(&mut requests.into_iter().enumerate(), 2, &mut |event| {
        tokens += usize::from(matches!(event, Event::Token(..)));
        if tokens == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(flow.is_break());
    assert_eq!(tokens, 5);
}

#[test]
fn a_request_that_is_added_takes_the_room_of_one_that_ended() {
    let mut loaded = load("llama3");
    loaded.stop.clear();
    let generator = Generator::new(&loaded.model, &loaded.config, &loaded.stop);
    let prompts = loaded.requests(3, Sampling::GREEDY);
    let alone = loaded.generate(&prompts[..1], 1);
    let long = Request { max_new_tokens: 20, ..prompts[1].clone() };
    let waiting = RefCell::new(vec![(2, prompts[2].clone()), (1, long), (0, prompts[0].clone())]);
    let mut ended = vec![];
    let flow = generator.run(&mut std::iter::from_fn(|| waiting.borrow_mut().pop()), 2, &mut |event| {
        if let Event::Done(request, generated) = event {
            if request == 0 {
                waiting.borrow_mut().push((7, prompts[0].clone()));
            }
            ended.push((request, generated));
        }
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    // The long one goes on all the while; the added one comes before the third, which waited longer.
    assert_eq!(ended.iter().map(|(request, _)| *request).collect::<Vec<_>>(), [0, 7, 2, 1]);
    assert_eq!(ended[1].1, alone[0]);
}
