"""Makes crates/asft-model/tests/goldens/gguf: the tiny `llama3` checkpoint as GGUF, with the numbers it must give.

    pip install torch==2.9.0 transformers==5.23.0 safetensors gguf==0.19.0
    python goldens/tiny_gguf.py        # needs tiny_models.py's files

mixed.gguf stores its tensors in every supported type. expected.json holds what tiny_models.py writes, in f64 under the
weights as gguf-py dequantises them. rope_8.gguf and rope_32.gguf hold a shape and the rotary divisors of Llama 3.1 and 3.2.
"""

import json
import shutil

import gguf
import numpy as np
import torch
from exact import ROOT, encode, load, read_rows, sums, versions
from gguf import GGMLQuantizationType as Type
from tiny_models import OUTPUT, one_pair_a_line
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

SOURCE = OUTPUT / "llama3"
TARGET = OUTPUT / "gguf"

# Hugging Face's name of a part, GGUF's name, and how block 0 and block 1 store it.
PARTS = [
    ("input_layernorm", "attn_norm", Type.F32, Type.F32),
    ("self_attn.q_proj", "attn_q", Type.Q5_0, Type.Q4_1),
    ("self_attn.k_proj", "attn_k", Type.Q4_0, Type.Q8_0),
    ("self_attn.v_proj", "attn_v", Type.Q4_1, Type.F32),
    ("self_attn.o_proj", "attn_output", Type.Q5_1, Type.Q4_0),
    ("post_attention_layernorm", "ffn_norm", Type.F32, Type.F32),
    ("mlp.gate_proj", "ffn_gate", Type.Q8_0, Type.BF16),
    ("mlp.up_proj", "ffn_up", Type.F16, Type.Q5_0),
    ("mlp.down_proj", "ffn_down", Type.Q5_1, Type.F16),
]
TENSORS = [
    ("model.embed_tokens.weight", "token_embd.weight", Type.Q8_0),
    *(
        (f"model.layers.{layer}.{theirs}.weight", f"blk.{layer}.{ours}.weight", kinds[layer])
        for layer in range(2)
        for theirs, ours, *kinds in PARTS
    ),
    ("model.norm.weight", "output_norm.weight", Type.F32),
    ("lm_head.weight", "output.weight", Type.BF16),
]


def heads_of(name, config):
    """Heads whose rows llama.cpp reorders in this tensor, 0 where it does not."""
    return {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2], 0)


def paired(weight, heads):
    """Hugging Face's rows of a head (first halves, then second halves) in llama.cpp's order (each plane's two rows side by side)."""
    width = weight.shape[1]
    return weight.reshape(heads, 2, -1, width).swapaxes(1, 2).reshape(-1, width)


def unpaired(weight, heads):
    """Hugging Face's order again, row by row, so that the two directions share no formula."""
    head_dim = weight.shape[0] // heads
    out = np.empty_like(weight)
    for row in range(weight.shape[0]):
        head, place = divmod(row, head_dim)
        plane, second = divmod(place, 2)
        out[head * head_dim + second * (head_dim // 2) + plane] = weight[row]
    return out


def write_shape(writer, config):
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)


def write_tokenizer(writer):
    document = json.loads((SOURCE / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((SOURCE / "tokenizer_config.json").read_text(encoding="utf-8"))
    ids = dict(document["model"]["vocab"])
    special = {token["content"]: token["id"] for token in document["added_tokens"]}
    ids.update(special)
    tokens = sorted(ids, key=ids.get)
    assert [ids[token] for token in tokens] == list(range(len(tokens)))
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in document["model"]["merges"]])
    writer.add_bos_token_id(special[config["bos_token"]])
    writer.add_eos_token_id(special[config["eos_token"]])
    writer.add_pad_token_id(special[config["pad_token"]])
    writer.add_add_bos_token(True)
    writer.add_chat_template(config["chat_template"])


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_mixed(path, model):
    config, weights = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    write_shape(writer, config)
    write_tokenizer(writer)
    for theirs, ours, kind in TENSORS:
        weight = weights.pop(theirs).numpy()
        if heads := heads_of(theirs, config):
            weight = paired(weight, heads)
        # The writer infers F32 and F16 from the array; every other type comes to it as bytes.
        stored = gguf.quantize(np.ascontiguousarray(weight), kind)
        writer.add_tensor(ours, stored, raw_dtype=None if kind in (Type.F32, Type.F16) else kind)
    assert not weights, f"not written: {list(weights)}"
    finish(writer)


def dequantised(path, config):
    """The file's weights under Hugging Face's names, and how each is stored."""
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    weights, kinds = {}, {}
    for theirs, ours, kind in TENSORS:
        tensor = stored[ours]
        assert tensor.tensor_type == kind, f"{ours} is {tensor.tensor_type}"
        values = gguf.dequantize(tensor.data, kind).astype(np.float32)
        if heads := heads_of(theirs, config):
            values = unpaired(values, heads)
        weights[theirs] = torch.from_numpy(values.copy())
        kinds[ours] = kind.name
    return weights, kinds


def expected(path):
    exact, tokenizer = load(SOURCE)
    weights, kinds = dequantised(path, exact.config)
    original = exact.state_dict()
    for name, weight in weights.items():
        # A permutation gone wrong is far larger than any format's rounding.
        error = (weight - original[name]).norm() / original[name].norm()
        assert error < 0.15, f"{name} is {error:.2f} away from its source"
    exact.load_state_dict({name: weight.double() for name, weight in weights.items()})
    pairs = []
    for index, row in enumerate(read_rows(SOURCE / "pairs.jsonl")):
        ids = encode(tokenizer, row)
        with torch.no_grad():
            chosen, rejected, prompt = (value.item() for value in sums(exact, *ids))
        pairs.append(
            {
                "index": index,
                **dict(zip(("prompt", "chosen", "rejected"), ids)),
                "logp_sum_chosen": chosen,
                "logp_sum_rejected": rejected,
                "logp_sum_prompt": prompt,
            }
        )
    return {
        "made_by": "goldens/tiny_gguf.py",
        "versions": {**versions(), "gguf": gguf_version()},
        "precision": "f64, of weights dequantised to f32; logp_sum_prompt is over all prompt tokens but the first",
        "tensor_types": kinds,
        "pairs": pairs,
    }


def gguf_version():
    from importlib.metadata import version

    return version("gguf")


def write_rope(path, factor):
    """A shape of one head of 64 and its rotary divisors: plain over stretched inverse frequencies, by transformers."""
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": factor, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    config = LlamaConfig(
        vocab_size=2, hidden_size=64, intermediate_size=2, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=64, max_position_embeddings=131072, rope_parameters=rope,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 500000.0 ** (-torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    writer = gguf.GGUFWriter(path, "llama")
    write_shape(writer, config)
    writer.add_tensor("token_embd.weight", np.zeros((2, 64), np.float16))
    writer.add_tensor("rope_freqs.weight", (plain / stretched.double()).float().numpy())
    finish(writer)


def main():
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    model, _ = load(SOURCE, exact=False)
    mixed = TARGET / "mixed.gguf"
    write_mixed(mixed, model)
    (TARGET / "expected.json").write_text(one_pair_a_line(expected(mixed)), encoding="utf-8")
    for factor in (8, 32):
        write_rope(TARGET / f"rope_{factor}.gguf", float(factor))
    for file in sorted(TARGET.iterdir()):
        print(file.relative_to(ROOT), file.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
