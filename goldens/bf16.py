"""How far gradients in bf16 are from those in f32 in PyTorch itself, for a Llama of the quickstart's shape.

Weights and activations in bf16 against the same weights in f32; the norm of the difference over the norm, for all gradients
together and for the parameter where it is the largest. What `asft bench conformance --dtype bf16` allows was chosen by it.

    python goldens/bf16.py quickstart/config.json

torch 2.9.0 on the CPU, transformers 5.24.0: eager 2.2e-2 and 3.1e-2, sdpa 2.1e-2 and 2.8e-2.
"""

import sys

import torch
import transformers

config = transformers.LlamaConfig.from_pretrained(sys.argv[1])
ids = torch.randint(0, config.vocab_size, (8, 60), generator=torch.Generator().manual_seed(1))


def gradients(model):
    model.zero_grad()
    logits = model(ids).logits.float()
    log_probs = logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])
    (-log_probs.mean()).backward()
    return {name: parameter.grad.float() for name, parameter in model.named_parameters()}


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


print("torch", torch.__version__, "transformers", transformers.__version__)
for attention in ("eager", "sdpa"):
    torch.manual_seed(0)
    config._attn_implementation = attention
    model = transformers.LlamaForCausalLM(config)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.15)
        # Representable in bf16, so that both begin alike.
        parameter.data = parameter.data.bfloat16().float()
    exact = gradients(model)
    narrow = gradients(model.bfloat16())
    worst = max(exact, key=lambda name: distance(narrow[name], exact[name]))
    whole = [torch.cat([all[name].flatten() for name in exact]) for all in (narrow, exact)]
    print(f"{attention:6} all {distance(*whole):.1e}  {worst} {distance(narrow[worst], exact[worst]):.1e}")
