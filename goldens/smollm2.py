"""Scores preference rows with transformers in f32, in the form `asft score` writes. Run by hand; CI has no real model.

    pip install torch==2.9.0 transformers==5.23.0 gguf accelerate safetensors
    python goldens/smollm2.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf --data pairs.jsonl --rows 20 --output reference.jsonl
    asft score --model SmolLM2-135M-Instruct.Q4_1.gguf --data pairs.jsonl --output ours.jsonl
    python goldens/compare_scores.py reference.jsonl ours.jsonl

--export DIR also writes the model as a Hugging Face directory. Rows are {"prompt", "chosen", "rejected"}, strings or
messages. Left out, with a line on stderr: an answer that is empty or white space, two answers with equal tokens, and
prompt + answer over --max-length tokens for either answer. "index" is the row's number in the file, from 0.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from exact import encode, messages, read_rows
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM


def load(arguments):
    if arguments.model:
        source = {"pretrained_model_name_or_path": arguments.model}
    else:
        path = Path(arguments.gguf).resolve()
        source = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    if arguments.gguf:
        # transformers marks a dequantised GGUF as still quantised and refuses to save it; a plain copy is not marked.
        config = model.config.to_dict()
        for key in ("quantization_config", "_name_or_path"):
            config.pop(key, None)
        plain = LlamaForCausalLM(LlamaConfig(**config))
        plain.load_state_dict(model.state_dict())
        model = plain
        # transformers ignores `tokenizer.ggml.pre = "smollm"` and splits as GPT-2 does. SmolLM2 first cuts at every digit,
        # so that the blank line before "1." is one token.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        check_tokenizer(tokenizer)
    return model.eval(), tokenizer


def check_tokenizer(tokenizer):
    """The GGUF's tokenizer is put together here: make sure of the parts that go wrong unnoticed."""
    ids = tokenizer("in 2048 or 12", add_special_tokens=False)["input_ids"]
    pieces = tokenizer.convert_ids_to_tokens(ids)
    digits = [piece for piece in pieces if any(c.isdigit() for c in piece)]
    assert digits == list("204812"), f"digits are not split one by one: {pieces}"
    blank_line = tokenizer("a\n\n1.", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(blank_line) == ["a", "\u010a\u010a", "1", "."], blank_line
    for token in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
        ids = tokenizer(token, add_special_tokens=False)["input_ids"]
        assert len(ids) == 1, f"{token} is {len(ids)} tokens"
    text = "Caf\u00e9 na\u00efve \u2014 \u4f60\u597d\n\n  tabs\tand  spaces  \U0001f600"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def score(model, prompt, answer):
    ids = torch.tensor([prompt + answer])
    logits = model(ids, use_cache=False, logits_to_keep=len(answer) + 1).logits[0, :-1].float()
    log_probs = torch.log_softmax(logits, -1).gather(-1, ids[0, -len(answer) :, None])
    return {"logp_sum": log_probs.double().sum().item(), "tokens": len(answer)}


def reason_to_skip(row, ids, max_length):
    if any(not answer.strip() for answer in messages(row)[1:]):
        return "an answer is empty"
    if ids[1] == ids[2]:
        return "both answers have the same tokens"
    if len(ids[0]) + max(len(ids[1]), len(ids[2])) > max_length:
        return f"more than {max_length} tokens"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--gguf", help="a GGUF file")
    source.add_argument("--model", help="a Hugging Face directory")
    parser.add_argument("--data", required=True, help="JSON Lines of prompt, chosen, rejected")
    parser.add_argument("--rows", type=int, default=20, help="how many rows of the file to look at")
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--output", required=True)
    parser.add_argument("--export", help="also write the model as a Hugging Face directory here")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, tokenizer = load(arguments)
    if arguments.export:
        model.save_pretrained(arguments.export)
        tokenizer.save_pretrained(arguments.export)
    with torch.no_grad(), open(arguments.output, "w", encoding="utf-8") as output:
        for index, row in enumerate(read_rows(arguments.data)[: arguments.rows]):
            ids = encode(tokenizer, row)
            reason = reason_to_skip(row, ids, arguments.max_length)
            if reason:
                print(f"row {index} left out: {reason}", file=sys.stderr)
                continue
            chosen, rejected = (score(model, ids[0], answer) for answer in ids[1:])
            line = {"index": index, "prompt_tokens": len(ids[0]), "chosen": chosen, "rejected": rejected}
            output.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
