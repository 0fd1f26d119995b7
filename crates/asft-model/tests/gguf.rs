//! GGUF files that the `gguf` Python package wrote (`goldens/tiny_gguf.py`), whole and damaged.
#![cfg(feature = "flex")]

mod scoring;

use std::path::{Path, PathBuf};

use asft_data::{
    Tokenizer,
    read::Source,
    schema::{Converted, Format, SchemaRows},
    template::{RenderOptions, TemplateChoice},
};
use asft_model::{Llama, LlamaConfig, ModelError, RopeScaling, checkpoint::Checkpoint};
use burn::backend::Flex;
use scoring::{close, golden, pairs, score};

fn mixed() -> PathBuf {
    golden("gguf").join("mixed.gguf")
}

fn load(checkpoint: &mut Checkpoint) -> Result<Llama<Flex>, ModelError> {
    let config = checkpoint.config().clone();
    Llama::load(&config, checkpoint.weights(), &Default::default())
}

#[test]
fn every_tensor_type_scores_as_gguf_py_dequantises_it() {
    let mut checkpoint = Checkpoint::open(&mixed()).unwrap();
    let source = Checkpoint::open(&golden("llama3")).unwrap();
    // GGUF names one end-of-text id, and its epsilon is an f32.
    let rms_norm_eps = f64::from(1e-5_f32);
    let expected = LlamaConfig { eos_token_ids: vec![516], rms_norm_eps, ..source.config().clone() };
    assert_eq!(checkpoint.config(), &expected);

    let model = load(&mut checkpoint).unwrap();
    let pairs = pairs(&golden("gguf"));
    assert_eq!(pairs.len(), 8);
    let all: Vec<_> = pairs.iter().map(|(pair, _)| pair).collect();
    for (index, (got, (_, expected))) in score(&model, &checkpoint, &all).iter().zip(&pairs).enumerate() {
        for (got, expected) in got.iter().zip(expected) {
            assert!(close(*got, *expected, 1e-4), "pair {index}: {got} against {expected}");
        }
    }
}

#[test]
fn the_tokenizer_inside_gives_the_ids_of_the_hugging_face_one() {
    let checkpoint = Checkpoint::open(&mixed()).unwrap();
    let tokenizer = Tokenizer::from_model(checkpoint.path()).unwrap();
    checkpoint.check_vocabulary(tokenizer.vocab_size()).unwrap();
    let template = TemplateChoice::Model.resolve(&tokenizer, RenderOptions::default()).unwrap();
    let expected = pairs(&golden("llama3"));
    let rows = SchemaRows::open(&Source::File(golden("llama3").join("pairs.jsonl")), Format::Auto).unwrap();
    let mut count = 0;
    for (row, (expected, _)) in rows.zip(&expected) {
        let (_, Converted::Row(row)) = row.unwrap() else { panic!("pair {count} is dropped") };
        let got = tokenizer.encode_pair(&row, &template).unwrap();
        assert_eq!(
            (&got.prompt, &got.chosen, &got.rejected),
            (&expected.prompt, &expected.chosen, &expected.rejected),
            "pair {count}"
        );
        count += 1;
    }
    assert_eq!(count, expected.len());
    assert_eq!(tokenizer.encode("Hello", true).unwrap()[0], 512, "BOS comes first");
}

#[test]
fn rotary_divisors_are_recognised() {
    for (name, expected) in [("rope_8.gguf", 8.0), ("rope_32.gguf", 32.0)] {
        let checkpoint = Checkpoint::open(&golden("gguf").join(name)).unwrap();
        let scaling = RopeScaling::Llama3 {
            factor: expected,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        assert_eq!(checkpoint.config().rope_scaling, scaling, "{name}");
    }
}

/// Where `text` ends in `bytes`, in which it must occur once.
fn end_of(bytes: &[u8], text: &str) -> usize {
    let places: Vec<_> =
        bytes.windows(text.len()).enumerate().filter(|(_, w)| *w == text.as_bytes()).collect();
    let [(start, _)] = places[..] else { panic!("{text} occurs {} times", places.len()) };
    start + text.len()
}

/// Puts `new` in the place of `old`, a name of the same length.
fn rename(bytes: &mut [u8], old: &str, new: &str) {
    let end = end_of(bytes, old);
    bytes[end - old.len()..end].copy_from_slice(new.as_bytes());
}

/// Sets the stored type of a two-dimensional tensor: after its name come the number of dimensions and two of 8 bytes.
fn set_type(bytes: &mut [u8], tensor: &str, id: u32) {
    let place = end_of(bytes, tensor) + 4 + 2 * 8;
    bytes[place..place + 4].copy_from_slice(&id.to_le_bytes());
}

/// Sets a metadata number of 32 bits: after its key come its type and its value.
fn set_number(bytes: &mut [u8], key: &str, value: u32) {
    let place = end_of(bytes, key) + 4;
    bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn damage_is_named() {
    type Case<'a> = (&'a str, &'a str, &'a dyn Fn(&mut Vec<u8>), &'a [&'a str]);
    let cases: [Case; 11] = [
        (
            "unsupported type",
            "mixed.gguf",
            // IQ4_NL has blocks of 32 like Q4_0, so nothing else is wrong with the file.
            &|b| set_type(b, "blk.0.ffn_up.weight", 20),
            &["tensor model.layers.0.mlp.up_proj.weight", "IQ4_NL", "hint: convert"],
        ),
        (
            "unknown type",
            "mixed.gguf",
            &|b| set_type(b, "blk.0.ffn_up.weight", 99),
            &["tensor `blk.0.ffn_up.weight`", "ggml type 99 is unknown"],
        ),
        (
            "blocks wider than the rows",
            "mixed.gguf",
            &|b| set_type(b, "blk.0.ffn_up.weight", 12),
            &["tensor `blk.0.ffn_up.weight`", "Q4_K"],
        ),
        (
            "missing weight",
            "mixed.gguf",
            &|b| rename(b, "blk.1.ffn_up.weight", "blk.1.ffn_uq.weight"),
            &["tensor model.layers.1.mlp.up_proj.weight", "missing"],
        ),
        (
            "missing embedding",
            "mixed.gguf",
            &|b| rename(b, "token_embd.weight", "token_embe.weight"),
            &["tensor token_embd.weight", "missing"],
        ),
        (
            "bias",
            "mixed.gguf",
            &|b| rename(b, "blk.1.ffn_up.weight", "blk.1.attn_qqq.bias"),
            &["tensor blk.1.attn_qqq.bias", "no biases"],
        ),
        (
            "other shape",
            "mixed.gguf",
            &|b| set_number(b, "llama.feed_forward_length", 96),
            &["tensor model.layers.0.mlp.gate_proj.weight", "[64, 32]", "[96, 32]"],
        ),
        (
            "rotary embedding of half a head",
            "mixed.gguf",
            &|b| set_number(b, "llama.rope.dimension_count", 4),
            &["llama.rope.dimension_count", "4 is not supported"],
        ),
        (
            "more layers than tensors",
            "mixed.gguf",
            &|b| set_number(b, "llama.block_count", u32::MAX),
            &["num_hidden_layers", "out of range"],
        ),
        (
            "other architecture",
            "rope_8.gguf",
            // The value follows its type and its length.
            &|b| {
                let place = end_of(b, "general.architecture") + 4 + 8;
                b[place..place + 5].copy_from_slice(b"gemma");
            },
            &["general.architecture", "\"gemma\""],
        ),
        (
            "other rotary divisors",
            "rope_8.gguf",
            // The divisors are the last tensor of the file.
            &|b| {
                let place = b.len() - 4;
                b[place..].copy_from_slice(&5.0_f32.to_le_bytes());
            },
            &["rope_freqs.weight", "not Llama 3.1's or 3.2's"],
        ),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.gguf");
    for (what, file, damage, expected) in cases {
        let mut bytes = std::fs::read(golden("gguf").join(file)).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let opened = Checkpoint::open(&path).and_then(|mut checkpoint| load(&mut checkpoint).map(|_| ()));
        let error = opened.expect_err(what).to_string();
        assert!(error.starts_with(&*path.to_string_lossy()), "{what}: {error}");
        for part in expected {
            assert!(error.contains(part), "{what}: {part} is not in: {error}");
        }
    }
}

#[test]
fn a_directory_with_one_gguf_file_is_a_model() {
    let directory = tempfile::tempdir().unwrap();
    let copy = |name: &str| std::fs::copy(mixed(), directory.path().join(name)).unwrap();
    let open = |path: &Path| Checkpoint::open(path).map(|checkpoint| checkpoint.path().to_owned());
    let error = open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("config.json is missing\n"), "{error}");
    copy("model.GGUF");
    assert_eq!(open(directory.path()).unwrap(), directory.path().join("model.GGUF"));
    copy("other.gguf");
    let error = open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("2 .gguf files"), "{error}");
    assert_eq!(open(&directory.path().join("other.gguf")).unwrap(), directory.path().join("other.gguf"));
}
