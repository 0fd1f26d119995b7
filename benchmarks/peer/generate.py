"""Greedy generation by transformers, measured as `asft bench generate` does.

    python benchmarks/peer/generate.py MODEL_DIR BATCH [NEW_TOKENS] [PROMPT_TOKENS]

f32, kept keys and values, no answer ends early. Prints one JSON object; needs torch and transformers.
"""

import json
import resource
import sys
import time

import torch
from transformers import AutoModelForCausalLM


def main():
    directory, batch = sys.argv[1], int(sys.argv[2])
    new_tokens = int(sys.argv[3]) if len(sys.argv) > 3 else 64
    prompt_tokens = int(sys.argv[4]) if len(sys.argv) > 4 else 32
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    ids = torch.randint(100, model.config.vocab_size - 100, (batch, prompt_tokens), generator=torch.Generator().manual_seed(1))
    rates = []
    for _ in range(3):
        started = time.perf_counter()
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=new_tokens, max_new_tokens=new_tokens
        )
        rates.append(batch * (out.shape[1] - prompt_tokens) / (time.perf_counter() - started))
    rates.sort()
    result = {
        "batch": batch, "prompt_tokens": prompt_tokens, "new_tokens": new_tokens,
        "tokens_per_second": rates[1], "tokens_per_second_best": rates[2],
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
