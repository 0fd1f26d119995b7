"""A Hugging Face Llama in f64 from end to end, and the log-prob sums of preference rows under it.

transformers computes RMS norms and rotary angles in f32 whatever the model's type. Here both are replaced by f64 forms
with the same formulas, so that goldens carry no rounding of their own to speak of.
"""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent


class ExactNorm(torch.nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.weight = torch.nn.Parameter(norm.weight.detach().double())
        self.variance_epsilon = norm.variance_epsilon

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


class ExactRotary(torch.nn.Module):
    """cos and sin of position times inverse frequency, [batch, tokens, head_dim], the two halves alike."""

    def __init__(self, rotary):
        super().__init__()
        assert rotary.attention_scaling == 1.0
        self.inv_freq = rotary.inv_freq.double()

    def forward(self, x, position_ids):
        angles = position_ids[..., None].double() * self.inv_freq
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()


def load(directory, exact=True):
    """Model (f64 when exact, else f32 as transformers computes it) and tokenizer of a Hugging Face directory."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa").eval()
    if exact:
        model = model.double()
        model.model.rotary_emb = ExactRotary(model.model.rotary_emb)
        model.model.norm = ExactNorm(model.model.norm)
        for layer in model.model.layers:
            layer.input_layernorm = ExactNorm(layer.input_layernorm)
            layer.post_attention_layernorm = ExactNorm(layer.post_attention_layernorm)
    return model, AutoTokenizer.from_pretrained(directory)


def messages(row):
    """Prompt messages, chosen answer, rejected answer of a TRL row of strings or of messages."""
    if isinstance(row["prompt"], str):
        return [{"role": "user", "content": row["prompt"]}], row["chosen"], row["rejected"]
    return row["prompt"], row["chosen"][0]["content"], row["rejected"][0]["content"]


def encode(tokenizer, row):
    """Token ids of (prompt with generation header, chosen answer, rejected answer)."""
    turns, *answers = messages(row)
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    encoded = [tokenizer(prompt, add_special_tokens=False)["input_ids"]]
    for answer in answers:
        text = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": answer}], tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids[: len(encoded[0])] == encoded[0], "the prompt's tokens are no prefix of the whole"
        encoded.append(ids[len(encoded[0]) :])
    return encoded


def log_probs(model, ids):
    """log-prob of each token of one sequence but its first, [tokens - 1]."""
    logits = model(torch.tensor([ids]), use_cache=False).logits[0, :-1]
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]


def sums(model, prompt, chosen, rejected):
    """Log-prob sums of chosen, rejected and the prompt's predictable tokens; each answer in a sequence of its own."""
    with_chosen = log_probs(model, prompt + chosen)
    with_rejected = log_probs(model, prompt + rejected)
    start = len(prompt) - 1
    return with_chosen[start:].sum(), with_rejected[start:].sum(), with_chosen[:start].sum()


def read_rows(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]


def versions():
    import tokenizers
    import transformers

    return {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
