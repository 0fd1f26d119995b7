"""Makes crates/asft-model/tests/goldens/generated.json: what transformers adds greedily to prompts, by checkpoint.

    pip install torch==2.9.0 transformers==5.23.0
    python goldens/generation.py [MODEL_DIR PROMPTS]     # a model of one's own: prints ids, nothing is written

Weights and arithmetic are f64 but for norms and rotary angles, so that no near tie is decided by rounding.
"""

import json
import sys

import torch
from exact import ROOT, versions
from transformers import AutoModelForCausalLM, AutoTokenizer

GOLDENS = ROOT / "crates" / "asft-model" / "tests" / "goldens"
NEW_TOKENS = 24


def greedy(model, prompt, new_tokens):
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new_tokens)
    return out[0, len(prompt) :].tolist()


def main():
    if len(sys.argv) == 3:
        tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
        model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
        for line in open(sys.argv[2]):
            messages = [{"role": "user", "content": json.loads(line)["prompt"]}]
            text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
            print(json.dumps({"token_ids": greedy(model, prompt, 32)}))
        return
    result = {"versions": versions(), "models": {}}
    for name in ("llama3", "llama31_tied", "head_dim", "sharded"):
        model = AutoModelForCausalLM.from_pretrained(GOLDENS / name, dtype=torch.float64)
        expected = json.loads((GOLDENS / name / "expected.json").read_text())
        prompts = [pair["prompt"] for pair in expected["pairs"]]
        result["models"][name] = [greedy(model, prompt, NEW_TOKENS) for prompt in prompts]
    (GOLDENS / "generated.json").write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
