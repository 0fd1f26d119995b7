"""The trainings of `asft bench gpu` in PyTorch and transformers, on the same machine: seconds of each step and peak memory.

    asft bench gpu --output asft.json
    python benchmarks/gpu/peer.py --asft asft.json --shape crates/asft-train/shapes/llama-3-8b.json --output peer.json

A model of the same shape with random weights in bf16 is trained with ASFT's loss (arXiv 2409.10571, beta 0.1) on pairs
of the same lengths, in the way that trainers on transformers do it: prompt and answer of each side as a row of its own, padded
to the longest, gradient checkpointing, scaled-dot-product attention, AdamW with states in the weights' type. Adapters are
written out here (rank 16 on all projections), so that nothing but torch and transformers is needed. Each training runs
in a process of its own; one that runs out of memory leaves the other alone.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

MODES = ["lora", "full"]


def train(mode, shape, lengths, steps, device, dtype, checkpointing):
    import torch
    import torch.nn.functional as F
    import transformers

    class Adapted(torch.nn.Module):
        """A frozen linear layer with an adapter of rank 16 and alpha 32."""

        def __init__(self, linear):
            super().__init__()
            self.linear = linear
            like = dict(device=linear.weight.device, dtype=torch.float32)
            self.a = torch.nn.Parameter(torch.randn(16, linear.in_features, **like) * linear.in_features**-0.5)
            self.b = torch.nn.Parameter(torch.zeros(linear.out_features, 16, **like))

        def forward(self, x):
            return self.linear(x) + 2 * F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))

    torch.manual_seed(0)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[dtype]
    config = transformers.LlamaConfig(**{key: value for key, value in shape.items() if key != "torch_dtype"})
    config._attn_implementation = "sdpa"
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = transformers.LlamaForCausalLM(config)
    torch.set_default_dtype(default)
    model.config.use_cache = False
    if mode == "lora":
        model.requires_grad_(False)
        for layer in model.model.layers:
            for part, names in [(layer.self_attn, "qkvo"), (layer.mlp, ["gate", "up", "down"])]:
                for name in names:
                    setattr(part, f"{name}_proj", Adapted(getattr(part, f"{name}_proj")))
        # The first block's input has no gradient of its own, which checkpointing needs.
        model.enable_input_require_grads()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.0, fused=device == "cuda")

    # Made-up ids in the lengths of the pairs, the same in every step.
    rows = []
    for prompt, chosen, rejected in lengths:
        start = torch.randint(config.vocab_size, (prompt,)).tolist()
        for answer in (chosen, rejected):
            rows.append((start + torch.randint(config.vocab_size, (answer,)).tolist(), prompt))
    rows = rows[0::2] + rows[1::2]
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rows], device=device)
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows], device=device)
    answer = torch.tensor(
        [[prompt <= place < len(ids) for place in range(longest)] for ids, prompt in rows], device=device
    )

    def synchronise():
        if device == "cuda":
            torch.cuda.synchronize()

    seconds, losses = [], []
    for _ in range(steps):
        synchronise()
        started = time.perf_counter()
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        log_probs = torch.stack([
            -F.cross_entropy(row.float(), labels, reduction="none") for row, labels in zip(logits, ids[:, 1:])
        ])
        scored = answer[:, 1:]
        mean = (log_probs * scored).sum(1) / scored.sum(1)
        chosen, rejected = mean.chunk(2)
        odds = [side - torch.log(-torch.expm1(side)) for side in (chosen, rejected)]
        loss = (-chosen + 0.1 * (F.softplus(-odds[0]) + F.softplus(odds[1]))).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        synchronise()
        seconds.append(time.perf_counter() - started)
        losses.append(loss.item())
    middle = sorted(seconds[1:])[len(seconds[1:]) // 2]
    on_device = torch.cuda.max_memory_reserved() if device == "cuda" else None
    return {
        "step_seconds": seconds,
        "seconds_per_step": middle,
        "pairs_per_second": len(lengths) / middle,
        # Each prompt counted once, as asft counts, so that rates compare.
        "tokens_per_second": sum(map(sum, lengths)) / middle,
        "padded_tokens": len(rows) * longest,
        "losses": losses,
        "device_memory_bytes": on_device,
        # Linux counts KiB.
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "transformers": transformers.__version__},
    }


def pair_lengths(result):
    """Tokens of prompt, chosen and rejected answer of each pair, from any training in the file."""
    for part in result["parts"].values():
        if "pair_tokens" in part.get("result", {}):
            return part["result"]["pair_tokens"]
    sys.exit("the file holds no training whose pairs could be taken\nhint: asft bench gpu --parts lora,full")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--asft", required=True, help="what asft bench gpu wrote: its pairs' lengths are taken")
    parser.add_argument("--shape", required=True, help="config.json of the model")
    parser.add_argument("--modes", default=",".join(MODES), help="lora, full or both")
    parser.add_argument("--steps", type=int, default=4, help="the first is not counted")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--dtype", default="bf16", choices=["bf16", "f32"])
    parser.add_argument("--no-checkpointing", action="store_true", help="keeps all activations")
    parser.add_argument("--output", help="JSON file to write")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps < 2:
        parser.error("--steps must be at least 2")
    with open(arguments.asft, encoding="utf-8") as file:
        asft = json.load(file)
    if arguments.alone:
        with open(arguments.shape, encoding="utf-8") as file:
            shape = json.load(file)
        result = train(
            arguments.alone, shape, pair_lengths(asft), arguments.steps, arguments.device, arguments.dtype,
            not arguments.no_checkpointing,
        )
        print(json.dumps(result))
        return

    result = {}
    for mode in arguments.modes.split(","):
        if mode not in MODES:
            parser.error(f"--modes: {mode!r} is none of {', '.join(MODES)}")
        alone = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--alone", mode], capture_output=True, text=True
        )
        if alone.returncode == 0:
            result[mode] = json.loads(alone.stdout.splitlines()[-1])
        else:
            result[mode] = {"error": "\n".join(alone.stderr.splitlines()[-3:])}
        own = asft["parts"].get(mode, {})
        for name, found in [("asft", {**own.get("result", {}), **own.get("rates", {})}), ("torch", result[mode])]:
            seconds = found.get("seconds_per_step")
            memory = found.get("device_memory_bytes") or found.get("peak_memory_bytes")
            said = f"{seconds:.3f} s a step, {memory / 1e9:.2f} GB" if seconds else "no result"
            print(f"{mode:5} {name:6} {said}")
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
