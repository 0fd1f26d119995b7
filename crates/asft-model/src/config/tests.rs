//! Documents as people have them: spellings that mean the same, and mistakes that must be named.

use super::*;

/// A small Llama 3 document with these keys set; `null` takes one out.
fn document(changes: Value) -> Value {
    let mut document = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 100, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 131072,
        "bos_token_id": 1, "eos_token_id": 2,
    });
    let keys = document.as_object_mut().unwrap();
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => _ = keys.remove(key),
            value => _ = keys.insert(key.clone(), value.clone()),
        }
    }
    document
}

fn read(document: &Value) -> Result<LlamaConfig, ModelError> {
    LlamaConfig::from_json(document.to_string().as_bytes(), Path::new("dir/config.json"))
}

fn config(changes: Value) -> LlamaConfig {
    read(&document(changes)).unwrap()
}

const LLAMA_3_1: RopeScaling = RopeScaling::Llama3 {
    factor: 8.0,
    low_freq_factor: 1.0,
    high_freq_factor: 4.0,
    original_max_position_embeddings: 8192,
};

/// Llama 3.1's settings with these keys besides.
fn llama3_rope(extra: Value) -> Value {
    let mut rope = json!({
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    });
    rope.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    rope
}

#[test]
fn every_spelling_of_rope_gives_the_same_config() {
    let expected = LlamaConfig { rope_scaling: LLAMA_3_1, ..config(json!({})) };
    for changes in [
        json!({"rope_scaling": llama3_rope(json!({"rope_type": "llama3"}))}),
        json!({"rope_scaling": llama3_rope(json!({"type": "llama3"}))}),
        json!({"rope_scaling": llama3_rope(json!({"type": "llama3", "rope_type": "llama3"}))}),
        json!({"rope_theta": null, "rope_parameters": llama3_rope(json!({"rope_type": "llama3", "rope_theta": 500000.0}))}),
    ] {
        assert_eq!(config(changes.clone()), expected, "{changes}");
    }
    let plain = config(json!({}));
    assert_eq!((&plain.rope_scaling, plain.rope_theta), (&RopeScaling::None, 500_000.0));
    let nested =
        json!({"rope_theta": null, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}});
    assert_eq!(config(nested), plain);
    assert_eq!(config(json!({"rope_theta": null})).rope_theta, 10_000.0);
    let linear = config(json!({"rope_scaling": {"type": "linear", "factor": 2.0}}));
    assert_eq!(linear.rope_scaling, RopeScaling::Linear { factor: 2.0 });
}

#[test]
fn absent_keys_have_the_defaults_of_transformers() {
    let got = config(json!({
        "num_key_value_heads": null, "rms_norm_eps": null, "max_position_embeddings": null,
        "bos_token_id": null, "eos_token_id": null, "architectures": null,
    }));
    assert_eq!((got.num_key_value_heads, got.head_dim, got.rms_norm_eps), (4, 8, 1e-6));
    assert_eq!((got.max_position_embeddings, got.initializer_range), (2048, 0.02));
    assert_eq!((got.bos_token_id, got.eos_token_ids, got.tie_word_embeddings), (None, vec![], false));
    assert_eq!(config(json!({"eos_token_id": [128001, 128008]})).eos_token_ids, [128001, 128008]);
    assert_eq!(config(json!({"head_dim": 16})).head_dim, 16);
}

#[test]
fn what_cannot_be_used_is_refused_by_key() {
    let cases = [
        (json!({"architectures": ["MistralForCausalLM"]}), "architectures", "MistralForCausalLM"),
        (json!({"architectures": null, "model_type": "qwen2"}), "architectures", "qwen2"),
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}), "rope_scaling.rope_type", "\"yarn\""),
        (
            json!({"rope_scaling": {"type": "dynamic", "factor": 4.0}}),
            "rope_scaling.rope_type",
            "\"dynamic\"",
        ),
        (json!({"rope_parameters": {"rope_type": "longrope"}}), "rope_parameters.rope_type", "\"longrope\""),
        (json!({"rope_scaling": {"rope_type": "linear"}}), "rope_scaling.factor", "missing"),
        (json!({"rope_scaling": {"rope_type": "linear", "factor": 0.0}}), "rope_scaling.factor", "positive"),
        (
            json!({"rope_scaling": {"rope_type": "llama3", "low_freq_factor": 4.0, "high_freq_factor": 1.0}}),
            "rope_scaling.high_freq_factor",
            "above low_freq_factor 4",
        ),
        (
            json!({"rope_scaling": llama3_rope(json!({"rope_type": "llama3", "original_max_position_embeddings": 0}))}),
            "rope_scaling.original_max_position_embeddings",
            "positive",
        ),
        (json!({"head_dim": 7}), "head_dim", "7 is odd"),
        (json!({"num_key_value_heads": 3}), "num_key_value_heads", "3 does not divide num_attention_heads 4"),
        (json!({"num_key_value_heads": 0}), "num_key_value_heads", "0 is out of range"),
        (json!({"num_attention_heads": 0}), "num_attention_heads", "0 is out of range"),
        (json!({"hidden_size": 0}), "hidden_size", "0 is out of range"),
        (json!({"vocab_size": 0}), "vocab_size", "0 is out of range"),
        (json!({"num_hidden_layers": 0}), "num_hidden_layers", "0 is out of range"),
        (
            json!({"num_hidden_layers": 10_000_000}),
            "num_hidden_layers",
            "10000000 is out of range, 1 to 4096",
        ),
        (json!({"attention_bias": true}), "attention_bias", "no biases"),
        (json!({"mlp_bias": true}), "mlp_bias", "no biases"),
        (json!({"hidden_act": "gelu"}), "hidden_act", "\"gelu\""),
        (json!({"rms_norm_eps": 0.0}), "rms_norm_eps", "positive"),
        (json!({"rope_theta": -1.0}), "rope_theta", "positive"),
        (json!({"hidden_size": "wide"}), "hidden_size", "invalid type"),
        (json!({"rope_scaling": {"factor": "8"}}), "rope_scaling.factor", "invalid type"),
        (json!({"vocab_size": null}), "(top level)", "missing field `vocab_size`"),
    ];
    for (changes, key, what) in cases {
        let error = read(&document(changes.clone())).unwrap_err().to_string();
        let place = format!("dir/config.json: {key}: ");
        assert!(error.starts_with(&place) && error.contains(what), "{changes}: {error}");
    }
}

#[test]
fn what_is_written_reads_back_the_same() {
    for changes in [
        json!({}),
        json!({"eos_token_id": [2, 3], "head_dim": 16, "tie_word_embeddings": true, "initializer_range": 0.1}),
        json!({"bos_token_id": null, "eos_token_id": null}),
        json!({"rope_scaling": {"rope_type": "linear", "factor": 2.5}}),
        json!({"rope_scaling": llama3_rope(json!({"rope_type": "llama3"}))}),
    ] {
        let written = config(changes);
        assert_eq!(read(&written.to_json(WeightType::F32)).unwrap(), written);
    }
}

#[test]
fn parameters_are_those_of_released_models() {
    let llama = |vocab_size, hidden, inner, layers, heads, kv| {
        json!({
            "vocab_size": vocab_size, "hidden_size": hidden, "intermediate_size": inner,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv,
        })
    };
    // Llama 3 8B as its model card counts it.
    let big = config(llama(128_256, 4096, 14_336, 32, 32, 8));
    assert_eq!(big.parameters(), 8_030_261_248);
    // SmolLM2-135M, embedding shared.
    let small = LlamaConfig { tie_word_embeddings: true, ..config(llama(49_152, 576, 1536, 30, 9, 3)) };
    assert_eq!(small.parameters(), 134_515_008);
}
