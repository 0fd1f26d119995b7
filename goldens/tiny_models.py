"""Makes crates/asft-model/tests/goldens/NAME: tiny random Llama checkpoints, preference rows, and their log-probs.

    pip install torch==2.9.0 transformers==5.23.0 safetensors
    python goldens/tiny_models.py

Each directory is a Hugging Face checkpoint with the quickstart's tokenizer, pairs.jsonl (TRL's conversational form) and expected.json: token ids, and log-prob sums in f64, each answer run as a sequence of its own.
"""

import json
import shutil

import torch
from exact import ROOT, encode, load, read_rows, sums, versions
from transformers import LlamaConfig, LlamaForCausalLM

QUICKSTART = ROOT / "quickstart"
OUTPUT = ROOT / "crates" / "asft-model" / "tests" / "goldens"

SHAPES = {
    "llama3": dict(hidden_size=32, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2),
    "llama31_tied": dict(
        hidden_size=32, intermediate_size=64, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
        # Heads of 16 have wavelengths 6, 32, 167, ...: one below, one inside and the rest above the blended band 16..64.
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        },
    ),
    "head_dim": dict(
        hidden_size=40, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True
    ),
    "sharded": dict(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=1),
}


def rows():
    """Eight pairs from the quickstart's held-out rows: four as they are, two long ones, two of several turns."""
    held_out = read_rows(QUICKSTART / "held_out.jsonl")
    made = held_out[:4]
    for first, chosen_count, rejected_count in ((4, 4, 3), (10, 3, 4)):
        part = held_out[first : first + 4]
        made.append(
            {
                "prompt": " ".join(row["prompt"] for row in part[:2]),
                "chosen": "\n".join(row["chosen"] for row in part[:chosen_count]),
                "rejected": "\n\n".join(row["rejected"] for row in part[:rejected_count]),
            }
        )
    for first, system in ((20, None), (24, "Answer in one sentence.")):
        before, now = held_out[first], held_out[first + 1]
        prompt = [
            {"role": "user", "content": before["prompt"]},
            {"role": "assistant", "content": before["chosen"]},
            {"role": "user", "content": now["prompt"]},
        ]
        if system:
            prompt.insert(0, {"role": "system", "content": system})
        made.append({"prompt": prompt, **{side: now[side] for side in ("chosen", "rejected")}})
    return [as_messages(row) for row in made]


def as_messages(row):
    """TRL's conversational form of a row whose answers are strings."""
    prompt = row["prompt"] if isinstance(row["prompt"], list) else [{"role": "user", "content": row["prompt"]}]
    return {"prompt": prompt, **{k: [{"role": "assistant", "content": row[k]}] for k in ("chosen", "rejected")}}


def random_model(shape, seed):
    quickstart = json.loads((QUICKSTART / "config.json").read_text(encoding="utf-8"))
    kept = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings", "rms_norm_eps")
    defaults = {
        "num_hidden_layers": 2,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    }
    model = LlamaForCausalLM(LlamaConfig(**{k: quickstart[k] for k in kept}, **{**defaults, **shape}))
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            weight.copy_(1.0 + 0.2 * noise if "norm" in name else 0.25 * noise)
    return model


def spell_as_before_transformers_5(directory):
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    config["rope_scaling"] = scaling
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def expected(directory):
    model, tokenizer = load(directory)
    in_f32, _ = load(directory, exact=False)
    pairs, worst = [], 0.0
    for index, row in enumerate(read_rows(directory / "pairs.jsonl")):
        ids = encode(tokenizer, row)
        with torch.no_grad():
            exact, rounded = ([value.item() for value in sums(m, *ids)] for m in (model, in_f32))
        worst = max(worst, *(abs(a - b) / abs(a) for a, b in zip(exact, rounded)))
        pairs.append(
            {
                "index": index,
                "prompt": ids[0],
                "chosen": ids[1],
                "rejected": ids[2],
                "logp_sum_chosen": exact[0],
                "logp_sum_rejected": exact[1],
                "logp_sum_prompt": exact[2],
            }
        )
    assert worst < 1e-5, f"transformers in f32 is {worst:.1e} away"
    return {
        "made_by": "goldens/tiny_models.py",
        "versions": versions(),
        "precision": "f64; logp_sum_prompt is over all prompt tokens but the first",
        "worst_relative_difference_of_transformers_f32": worst,
        "pairs": pairs,
    }


def one_pair_a_line(value):
    lines = json.dumps({**value, "pairs": []}, indent=2)
    pairs = ",\n".join("    " + json.dumps(pair, separators=(",", ":")) for pair in value["pairs"])
    return lines.replace('"pairs": []', f'"pairs": [\n{pairs}\n  ]') + "\n"


def main():
    for seed, (name, shape) in enumerate(SHAPES.items(), start=1):
        directory = OUTPUT / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        random_model(shape, seed).save_pretrained(directory, max_shard_size="40KB" if name == "sharded" else "1GB")
        (directory / "generation_config.json").unlink(missing_ok=True)
        if name == "llama31_tied":
            spell_as_before_transformers_5(directory)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(QUICKSTART / file, directory / file)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows())
        (directory / "pairs.jsonl").write_text(lines, encoding="utf-8")
        (directory / "expected.json").write_text(one_pair_a_line(expected(directory)), encoding="utf-8")
        print(name, sum(f.stat().st_size for f in directory.iterdir()), "bytes in", sorted(f.name for f in directory.iterdir()))


if __name__ == "__main__":
    main()
