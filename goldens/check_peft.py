"""Holds an adapter of a run, or one that `asft export --adapter` wrote, against PEFT.

    cargo xtask run export --model BASE --output base-hf                 # where the base is a GGUF file
    python goldens/check_peft.py --run runs/NAME --base base-hf --data pairs.jsonl --asft target/release/asft

Loads the adapter with peft onto the base in transformers, scores the first pairs in f32 with the adapter beside the
weights and merged into them, and compares with `asft score` of the run and of its merged export. Exit code 1 where log-prob
sums differ by more than --rel. Everything else it writes is gone afterwards.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import peft
import torch
from exact import encode, read_rows
from transformers import AutoModelForCausalLM, AutoTokenizer


def score(model, prompt, answer):
    ids = torch.tensor([prompt + answer])
    logits = model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
    return torch.log_softmax(logits, -1).gather(-1, ids[0, len(prompt) :, None]).double().sum().item()


def asft_scores(arguments, model, directory):
    output = Path(directory) / "scores.jsonl"
    command = [arguments.asft, "score", "--model", model, "--data", arguments.rows_file, "--max-length", str(arguments.max_length)]
    subprocess.run([*command, "--output", output], check=True, capture_output=True)
    return {line["index"]: line for line in map(json.loads, output.read_text(encoding="utf-8").splitlines())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="a run directory or a directory of an adapter")
    parser.add_argument("--base", required=True, help="the base model as a Hugging Face directory")
    parser.add_argument("--data", required=True, help="JSON Lines of prompt, chosen, rejected")
    parser.add_argument("--asft", default="asft", help="the program")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--rel", type=float, default=1e-4)
    arguments = parser.parse_args()
    adapter = Path(arguments.run)
    adapter = adapter if (adapter / "adapter_config.json").is_file() else adapter / "latest"

    tokenizer = AutoTokenizer.from_pretrained(arguments.base)
    rows = []
    for row in read_rows(arguments.data):
        ids = encode(tokenizer, row)
        if len(ids[0]) + max(map(len, ids[1:])) <= arguments.max_length and ids[1] != ids[2]:
            rows.append((row, ids))
        if len(rows) == arguments.pairs:
            break
    base = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=torch.float32).eval()
    with torch.no_grad():
        plain = [[score(base, ids[0], answer) for answer in ids[1:]] for _, ids in rows]
        model = peft.PeftModel.from_pretrained(base, adapter).eval()
        beside = [[score(model, ids[0], answer) for answer in ids[1:]] for _, ids in rows]
        merged = model.merge_and_unload()
        merged = [[score(merged, ids[0], answer) for answer in ids[1:]] for _, ids in rows]

    with tempfile.TemporaryDirectory() as directory:
        arguments.rows_file = Path(directory) / "rows.jsonl"
        arguments.rows_file.write_text("".join(json.dumps(row) + "\n" for row, _ in rows), encoding="utf-8")
        ours = {"asft beside": asft_scores(arguments, arguments.run, directory)}
        export = Path(directory) / "merged"
        option = "--run" if (Path(arguments.run) / "latest").exists() else "--model"
        subprocess.run([arguments.asft, "export", option, arguments.run, "--output", export], check=True, capture_output=True)
        ours["asft merged"] = asft_scores(arguments, export, directory)
    kinds = {name: [[lines[i][side]["logp_sum"] for side in ("chosen", "rejected")] for i in range(len(rows))] for name, lines in ours.items()}
    kinds["peft merged"] = merged
    worst = 0.0
    for name, sums in kinds.items():
        differences = [abs(a - b) / abs(b) for one, two in zip(sums, beside) for a, b in zip(one, two)]
        worst = max(worst, *differences)
        print(f"{name} against peft beside: largest relative difference {max(differences):.1e}")
    moved = max(abs(a - b) / abs(a) for one, two in zip(plain, beside) for a, b in zip(one, two))
    print(f"the adapter changes sums by up to {moved:.1e}; {len(rows)} pairs, peft {peft.__version__}, torch {torch.__version__}")
    sys.exit(worst > arguments.rel)


if __name__ == "__main__":
    main()
