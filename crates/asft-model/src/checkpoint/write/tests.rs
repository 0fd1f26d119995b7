//! Written checkpoints read back bit for bit, in one file and in shards.

use burn::backend::Flex;
use serde_json::Value;

use super::*;
use crate::{
    RopeScaling,
    checkpoint::{Checkpoint, RandomWeights},
};

const CONFIG: LlamaConfig = LlamaConfig {
    vocab_size: 50,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 3,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 8,
    rms_norm_eps: 1e-5,
    rope_theta: 500_000.0,
    rope_scaling: RopeScaling::None,
    tie_word_embeddings: false,
    max_position_embeddings: 64,
    initializer_range: 0.02,
    bos_token_id: Some(1),
    eos_token_ids: vec![],
};

fn model(config: &LlamaConfig) -> Llama<Flex> {
    Llama::load(config, &mut RandomWeights::new(5, 1.0), &Default::default()).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Writes, and checks that config, tensors and the file beside them come back; gives the weights' file names.
fn round_trip(config: &LlamaConfig, shard_bytes: usize) -> (tempfile::TempDir, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let model = model(config);
    let files = [("tokenizer.json".to_owned(), b"{}".to_vec())];
    write_model_in_shards(directory.path(), config, &model, &files, shard_bytes).unwrap();
    assert_eq!(std::fs::read(directory.path().join("tokenizer.json")).unwrap(), b"{}");

    let mut read = Checkpoint::open(directory.path()).unwrap();
    assert_eq!(read.config(), config);
    let tensors = named_tensors(&model);
    assert_eq!(tensors.len(), 9 * config.num_hidden_layers + if config.tie_word_embeddings { 2 } else { 3 });
    for tensor in &tensors {
        let wanted: Vec<f32> = tensor.values.to_data().to_vec().unwrap();
        let got = read.weights().weight(&tensor.name, &tensor.shape).unwrap();
        assert_eq!(bits(&got), bits(&wanted), "{}", tensor.name);
    }
    let names = directory.path().read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".safetensors")).collect();
    names.sort();
    (directory, names)
}

#[test]
fn one_shard_needs_no_index() {
    for tie_word_embeddings in [false, true] {
        let config = LlamaConfig { tie_word_embeddings, ..CONFIG };
        let (directory, files) = round_trip(&config, SHARD_BYTES);
        assert_eq!(files, ["model.safetensors"]);
        assert!(!directory.path().join("model.safetensors.index.json").exists());
    }
}

#[test]
fn shards_stay_below_their_size_and_the_index_has_every_tensor() {
    // The largest tensors have 50 x 16 values, 3,200 bytes.
    let (directory, files) = round_trip(&CONFIG, 5_000);
    assert!(files.len() > 3, "{files:?}");
    let index = std::fs::read(directory.path().join("model.safetensors.index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let mut total = 0;
    let mut by_file: BTreeMap<String, usize> = BTreeMap::new();
    for tensor in &named_tensors(&model(&CONFIG)) {
        let file = index["weight_map"][&tensor.name].as_str().unwrap();
        *by_file.entry(file.to_owned()).or_default() += tensor.data_len();
        total += tensor.data_len();
    }
    assert_eq!(index["metadata"]["total_size"], total);
    assert_eq!(total, 4 * CONFIG.parameters());
    assert_eq!(by_file.keys().collect::<Vec<_>>(), files.iter().collect::<Vec<_>>());
    assert!(by_file.values().all(|&bytes| bytes <= 5_000), "{by_file:?}");
    let count = files.len();
    for (number, file) in files.iter().enumerate() {
        assert_eq!(*file, format!("model-{:05}-of-{count:05}.safetensors", number + 1));
    }
}

/// A tensor above the bound has a shard of its own.
#[test]
fn a_tensor_is_never_split() {
    let (_directory, files) = round_trip(&CONFIG, 1);
    assert_eq!(files.len(), named_tensors(&model(&CONFIG)).len());
}

#[test]
fn weights_in_bf16_stay_what_they_are() {
    let device = Default::default();
    let random = &mut RandomWeights::new(5, 1.0);
    let model = Llama::<Flex>::load_as(WeightType::Bf16, None, &CONFIG, random, &device).unwrap();
    let directory = tempfile::tempdir().unwrap();
    write_model(directory.path(), &CONFIG, &model, &[]).unwrap();
    let config: Value =
        serde_json::from_slice(&std::fs::read(directory.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["torch_dtype"], "bfloat16");
    let size = std::fs::metadata(directory.path().join("model.safetensors")).unwrap().len();
    let weights = 2 * CONFIG.parameters() as u64;
    assert!((weights..weights + 8192).contains(&size), "{size} bytes for {weights} of weights");

    let mut read = Checkpoint::open(directory.path()).unwrap();
    assert_eq!(read.weight_type().unwrap(), WeightType::Bf16);
    let again = Llama::<Flex>::load_as(WeightType::Bf16, None, &CONFIG, read.weights(), &device).unwrap();
    for (tensor, again) in named_tensors(&model).iter().zip(named_tensors(&again)) {
        assert_eq!(tensor.values.dtype(), burn::tensor::DType::BF16);
        assert_eq!(tensor.values.to_data(), again.values.to_data(), "{}", tensor.name);
    }
}
