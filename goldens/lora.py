"""Makes crates/asft-model/tests/goldens/lora/ and crates/asft-train/tests/goldens/lora.json: adapters as PEFT writes them,
log-probs with them, and four AdamW steps that train nothing else.

    pip install torch==2.9.0 transformers==5.23.0 peft==0.21.2
    python goldens/tiny_models.py && python goldens/lora.py

Both adapters are of tiny_models.py's `llama31_tied`, with factors drawn at random, B too, so that they change what the
model says. `all` adapts every projection; `some` adapts three, with an alpha that is no multiple of its rank. The steps are
training.py's with an adapter as the start, some of them on a base whose projections are quantised block by block as QLoRA
(arXiv 2305.14314) has it; where an objective needs a reference, it is the model with the adapter off.
"""

import json
import math

import peft
import torch
import training
from exact import ROOT, encode, load, read_rows, sums, versions
from transformers import get_cosine_schedule_with_warmup

BASE = "llama31_tied"
CHECKPOINT = ROOT / "crates" / "asft-model" / "tests" / "goldens" / BASE
ADAPTERS = ROOT / "crates" / "asft-model" / "tests" / "goldens" / "lora"
STEPS = ROOT / "crates" / "asft-train" / "tests" / "goldens" / "lora.json"

CONFIGS = {
    "all": dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    "some": dict(r=3, lora_alpha=4.5, target_modules=["k_proj", "o_proj", "down_proj"]),
}
RUNS = [
    ("all", "asft", {"beta": 0.1}, None),
    ("some", "asft", {"beta": 1.0, "temperature": 0.1}, None),
    ("all", "dpo", {"beta": 0.1}, None),
    ("some", "dpo", {"beta": 0.5}, None),
    ("all", "asft", {"beta": 0.1}, "int8"),
    ("all", "asft", {"beta": 0.1}, "nf4"),
    ("some", "dpo", {"beta": 0.5}, "nf4"),
]
BLOCK = 64


def code_book(quantization):
    """int8: 255 even steps. nf4: quantiles of the normal distribution, eight above 0 and seven below, as the paper's code."""
    if quantization == "int8":
        return torch.arange(-127, 128).double() / 127
    quantiles = lambda count: torch.special.ndtri(torch.linspace(0.9677083, 0.5, count, dtype=torch.float64)[:-1])
    values = torch.cat([quantiles(9), torch.zeros(1, dtype=torch.float64), -quantiles(8)]).sort().values
    return values / values.abs().max()


def quantized(weight, quantization):
    """What is left of a matrix: in each block of 64 the nearest entry of the code book times the largest magnitude."""
    book, values = code_book(quantization), weight.detach().double().flatten()
    assert len(values) % BLOCK == 0
    blocks = values.reshape(-1, BLOCK)
    scales = blocks.abs().max(dim=1, keepdim=True).values
    codes = (blocks[..., None] / scales[..., None] - book).abs().argmin(dim=-1)
    return (book.float()[codes] * scales.float()).reshape(weight.shape)


def adapted(name, exact, quantization=None):
    """The tiny model with an adapter whose factors depend on its name alone, and the tokenizer."""
    model, tokenizer = load(CHECKPOINT, exact)
    if quantization:
        for path, module in model.model.layers.named_modules():
            if path.endswith("_proj"):
                module.weight.data = quantized(module.weight, quantization).to(module.weight.dtype)
    config = peft.LoraConfig(lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", **CONFIGS[name])
    model = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    generator = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for path, parameter in sorted(model.named_parameters()):
            if "lora_" in path:
                parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    return model, tokenizer


def write(name):
    model, tokenizer = adapted(name, exact=False)
    directory = ADAPTERS / name
    model.save_pretrained(directory)
    (directory / "README.md").unlink()
    config = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
    # Where a test runs is not known here; it puts its own path in.
    config["base_model_name_or_path"] = BASE
    config["target_modules"] = sorted(config["target_modules"])
    (directory / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    exact, _ = adapted(name, exact=True)
    rows = [encode(tokenizer, row) for row in read_rows(CHECKPOINT / "pairs.jsonl")]
    scored = {}
    with torch.no_grad():
        for kind, model in (("adapted", exact), ("merged", exact.merge_and_unload())):
            scored[kind] = [[value.item() for value in sums(model, *ids)] for ids in rows]
        worst = max(abs(a - b) for one, two in zip(*scored.values()) for a, b in zip(one, two))
        assert worst < 1e-9, worst
        for quantization in ("int8", "nf4"):
            model, _ = adapted(name, True, quantization)
            scored[quantization] = [[value.item() for value in sums(model, *ids)] for ids in rows]
    columns = ("logp_sum_chosen", "logp_sum_rejected", "logp_sum_prompt")
    named = {kind: [dict(zip(columns, row)) for row in scored[kind]] for kind in ("int8", "nf4")}
    made = {
        "made_by": "goldens/lora.py", "versions": {**versions(), "peft": peft.__version__}, "precision": "f64 throughout",
        "pairs": [dict(zip(columns, row)) for row in scored["adapted"]], "quantized_base": named,
        "nf4": code_book("nf4").tolist(),
    }
    (directory / "expected.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def train(adapter, name, keys, quantization, exact):
    model, tokenizer = adapted(adapter, exact, quantization)
    encoded = [encode(tokenizer, row) for row in read_rows(CHECKPOINT / "pairs.jsonl")]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(trained) == 2 * 2 * len(CONFIGS[adapter]["target_modules"])
    settings = training.OPTIMIZER
    optimizer = torch.optim.AdamW(
        trained, lr=settings["learning_rate"], betas=settings["betas"], eps=settings["eps"],
        weight_decay=settings["weight_decay"], foreach=False,
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, training.WARMUP_STEPS, training.STEPS)
    with torch.no_grad(), model.disable_adapter():
        references = [sums(model, *ids)[:2] for ids in encoded]
    steps = []
    for step in range(training.STEPS):
        rows = [(step * training.PAIRS_PER_STEP + i) % len(encoded) for i in range(training.PAIRS_PER_STEP)]
        scored = [training.score(model, encoded[row], references[row]) for row in rows]
        loss = training.loss_of_step(name, keys, scored)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, settings["max_grad_norm"])
        means = [sum((pair[i] / pair[3 + i]).item() for pair in scored) / len(scored) for i in (0, 1)]
        steps.append(
            {
                "loss": loss.item(), "grad_norm": norm.item(), "learning_rate": schedule.get_last_lr()[0],
                "logps_chosen": means[0], "logps_rejected": means[1],
            }
        )
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        after = [[value.item() for value in sums(model, *ids)] for ids in encoded]
    return steps, after


def main():
    for name in CONFIGS:
        write(name)
    runs = []
    for adapter, name, keys, quantization in RUNS:
        steps, after = train(adapter, name, keys, quantization, exact=True)
        strays = training.worst_difference((steps, after), train(adapter, name, keys, quantization, exact=False))
        assert strays < 1e-4 and all(math.isfinite(step["loss"]) for step in steps), strays
        columns = ("logp_sum_chosen", "logp_sum_rejected", "logp_sum_prompt")
        runs.append(
            {
                "adapter": adapter, "objective": name, "keys": keys, "quantization": quantization, "worst_relative_difference_of_f32": strays,
                "steps": steps, "after": [dict(zip(columns, row)) for row in after],
            }
        )
        print(adapter, name, keys, quantization, f"{strays:.1e}", *(f"{step['loss']:.4f}/{step['grad_norm']:.2f}" for step in steps))
    made = {
        "made_by": "goldens/lora.py", "versions": {**versions(), "peft": peft.__version__}, "precision": "f64 throughout",
        "base": BASE, "conventions": "training.json's; weight decay is on both factors of every adapter",
        "reference": "the model with its adapter off",
        "quantization": "of all projections of blocks; null: none", "runs": runs,
    }
    STEPS.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
