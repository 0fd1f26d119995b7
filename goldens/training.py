"""Makes crates/asft-train/tests/goldens/training.json: four AdamW steps in plain PyTorch, in f64, for several objectives.

    pip install torch==2.9.0 transformers==5.23.0
    python goldens/tiny_models.py && python goldens/training.py

Models and rows are those of tiny_models.py. Formulas: ASFT is paper Eq 13-14 in length-normalised log-probs
(temperature: arXiv 2502.01237), ORPO is
arXiv 2403.07691. The same steps in f32 are run too; how far they stray is stored, for a test's tolerance to be set by.
"""

import json
import math

import torch
from exact import ROOT, encode, load, read_rows, sums, versions
from torch.nn.functional import logsigmoid
from transformers import get_cosine_schedule_with_warmup

CHECKPOINTS = ROOT / "crates" / "asft-model" / "tests" / "goldens"
OUTPUT = ROOT / "crates" / "asft-train" / "tests" / "goldens" / "training.json"

STEPS, PAIRS_PER_STEP, WARMUP_STEPS = 4, 4, 1
OPTIMIZER = {"learning_rate": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.1, "max_grad_norm": 1.0}
RUNS = [
    ("asft", {"beta": 0.1}),
    # Random models give a rejected answer no probability to take away; this temperature makes its gradient felt.
    ("asft", {"beta": 1.0, "temperature": 0.1}),
    ("orpo", {"beta": 0.1}),
    ("orpo", {"beta": 0.1, "nll_scope": "prompt_response", "nll_reduction": "token"}),
    ("sft", {}),
]
# Of one checkpoint only. The model as it was before the first step is the reference.
MORE_RUNS = [
    ("dpo", {"beta": 0.1}),
    ("dpo", {"beta": 0.5, "label_smoothing": 0.1, "nll_weight": 1.0, "nll_scope": "prompt_response"}),
    ("robust", {"beta": 0.5, "label_smoothing": 0.1}),
    ("hinge", {"beta": 0.5}),
    ("ipo", {"beta": 0.1}),
    ("sigmoid_norm", {"beta": 5.0}),
    ("nca", {"beta": 0.5}),
    ("bco", {"beta": 0.5, "delta": 0.25}),
    ("kto", {"beta": 0.5, "z": 0.5, "lambda_rejected": 1.5}),
    ("apo_down", {"beta": 0.5}),
    ("simpo", {"beta": 2.0, "gamma_beta_ratio": 0.5}),
    ("cpo", {"beta": 0.1, "nll_weight": 1.0, "nll_reduction": "token"}),
    ("slic", {"beta": 0.1, "nll_weight": 1.0}),
]


def log_odds(l):
    return l - torch.log(-torch.expm1(l))


def preference(name, keys, s_w, s_l, t_w, t_l, ref_w, ref_l):
    """The loss of a pair without its NLL, for the objectives that are not ASFT, ORPO or SFT."""
    beta, smoothing = keys["beta"], keys.get("label_smoothing", 0.0)
    logistic = lambda x: -(1 - smoothing) * logsigmoid(x) - smoothing * logsigmoid(-x)
    r_w, r_l = s_w - ref_w, s_l - ref_l
    match name:
        case "simpo":
            return logistic(beta * (s_w / t_w - s_l / t_l - keys["gamma_beta_ratio"]))
        case "cpo":
            return logistic(beta * (s_w - s_l))
        case "slic":
            return torch.relu(1 - beta * (s_w - s_l))
        case "dpo":
            return logistic(beta * (r_w - r_l))
        case "robust":
            x = beta * (r_w - r_l)
            return (-(1 - smoothing) * logsigmoid(x) + smoothing * logsigmoid(-x)) / (1 - 2 * smoothing)
        case "hinge":
            return torch.relu(1 - beta * (r_w - r_l))
        case "ipo":
            return (r_w / t_w - r_l / t_l - 1 / (2 * beta)) ** 2
        case "sigmoid_norm":
            return -logsigmoid(beta * (r_w / t_w - r_l / t_l))
        case "nca":
            return -logsigmoid(beta * r_w) - 0.5 * logsigmoid(-beta * r_w) - 0.5 * logsigmoid(-beta * r_l)
        case "bco":
            return -logsigmoid(beta * r_w - keys["delta"]) - logsigmoid(keys["delta"] - beta * r_l)
        case "kto":
            gain, loss = torch.sigmoid(beta * (r_w - keys["z"])), torch.sigmoid(beta * (keys["z"] - r_l))
            return (1 - gain) + keys["lambda_rejected"] * (1 - loss)
        case "apo_down":
            return torch.sigmoid(beta * r_w) + 1 - torch.sigmoid(beta * (r_w - r_l))


def loss_of_step(name, keys, scored):
    """scored: per pair (s_w, s_l, s_p, T_w, T_l, T_p, ref_w, ref_l); the loss of the optimizer step, a mean over its pairs."""
    nll, align, nll_sum, nll_tokens = [], [], 0.0, 0
    for s_w, s_l, s_p, t_w, t_l, t_p, ref_w, ref_l in scored:
        l_w, l_l = s_w / t_w, s_l / t_l
        prompt_too = keys.get("nll_scope") == "prompt_response"
        total, tokens = (s_p + s_w, t_p + t_w) if prompt_too else (s_w, t_w)
        nll.append(-total / tokens)
        nll_sum, nll_tokens = nll_sum - total, nll_tokens + tokens
        if name == "asft":
            t = keys.get("temperature", 1.0)
            align.append(-logsigmoid(t * log_odds(l_w)) - logsigmoid(-t * log_odds(l_l)))
        elif name == "orpo":
            align.append(-logsigmoid(log_odds(l_w) - log_odds(l_l)))
        elif name != "sft":
            align.append(preference(name, keys, s_w, s_l, t_w, t_l, ref_w, ref_l))
    loss = nll_sum / nll_tokens if keys.get("nll_reduction") == "token" else sum(nll) / len(nll)
    if name == "sft":
        return loss
    align = sum(align) / len(align)
    return loss + keys["beta"] * align if name in ("asft", "orpo") else keys.get("nll_weight", 0.0) * loss + align


def score(model, ids, reference):
    prompt, chosen, rejected = ids
    return (*sums(model, prompt, chosen, rejected), len(chosen), len(rejected), len(prompt) - 1, *reference)


def train(checkpoint, name, keys, exact):
    model, tokenizer = load(CHECKPOINTS / checkpoint, exact)
    encoded = [encode(tokenizer, row) for row in read_rows(CHECKPOINTS / checkpoint / "pairs.jsonl")]
    norms = [p for n, p in model.named_parameters() if "norm" in n]
    others = [p for n, p in model.named_parameters() if "norm" not in n]
    optimizer = torch.optim.AdamW(
        [{"params": others, "weight_decay": OPTIMIZER["weight_decay"]}, {"params": norms, "weight_decay": 0.0}],
        lr=OPTIMIZER["learning_rate"], betas=OPTIMIZER["betas"], eps=OPTIMIZER["eps"], foreach=False,
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP_STEPS, STEPS)
    with torch.no_grad():
        references = [sums(model, *ids)[:2] for ids in encoded]
    steps = []
    for step in range(STEPS):
        rows = [(step * PAIRS_PER_STEP + i) % len(encoded) for i in range(PAIRS_PER_STEP)]
        scored = [score(model, encoded[row], references[row]) for row in rows]
        loss = loss_of_step(name, keys, scored)
        optimizer.zero_grad()
        loss.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER["max_grad_norm"])
        l_w = sum((p[0] / p[3]).item() for p in scored) / len(scored)
        l_l = sum((p[1] / p[4]).item() for p in scored) / len(scored)
        steps.append(
            {
                "loss": loss.item(), "grad_norm": grad_norm.item(), "learning_rate": schedule.get_last_lr()[0],
                "logps_chosen": l_w, "logps_rejected": l_l, "margin": l_w - l_l,
            }
        )
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        after = [[value.item() for value in sums(model, *ids)] for ids in encoded]
    return steps, after


def worst_difference(exact, rounded):
    """Largest relative difference of any stored figure but the margin (a difference of near values)."""
    def pairs(a, b):
        if isinstance(a, dict):
            return [p for key in a if key != "margin" for p in pairs(a[key], b[key])]
        if isinstance(a, (list, tuple)):
            return [p for x, y in zip(a, b) for p in pairs(x, y)]
        return [(a, b)]

    return max(abs(a - b) / max(abs(a), 1e-12) for a, b in pairs(exact, rounded))


def main():
    runs = []
    for checkpoint in ("llama3", "llama31_tied"):
        for name, keys in RUNS + (MORE_RUNS if checkpoint == "llama31_tied" else []):
            exact = train(checkpoint, name, keys, exact=True)
            strays = worst_difference(exact, train(checkpoint, name, keys, exact=False))
            assert strays < 1e-4 and all(math.isfinite(s["loss"]) for s in exact[0]), strays
            columns = ("logp_sum_chosen", "logp_sum_rejected", "logp_sum_prompt")
            runs.append(
                {
                    "checkpoint": checkpoint, "objective": name, "keys": keys,
                    "worst_relative_difference_of_f32": strays,
                    "steps": exact[0], "after": [dict(zip(columns, row)) for row in exact[1]],
                }
            )
            print(checkpoint, name, keys, f"{strays:.1e}", *(f"{s['loss']:.4f}/{s['grad_norm']:.2f}" for s in exact[0]))
    made = {
        "made_by": "goldens/training.py",
        "versions": versions(),
        "precision": "f64 throughout",
        "pairs": "step k (from 0) takes rows (4k + i) mod 8 of the checkpoint's pairs.jsonl, i = 0..3",
        "optimizer": {
            **OPTIMIZER,
            "weight_decay_on": "every tensor but the norms' (embedding and head included), decoupled: w *= 1 - lr*decay, then the Adam update",
            "clipping": "g *= min(1, max_grad_norm / (grad_norm + 1e-6)); a tied matrix is one parameter",
        },
        "schedule": {
            "kind": "cosine", "warmup_steps": WARMUP_STEPS, "total_steps": STEPS,
            "rule": "step k (from 0) uses peak*k/warmup for k < warmup, else peak*(1 + cos(pi*(k - warmup)/(total - warmup)))/2",
        },
        "after": "log-prob sums of every row after the last step; logp_sum_prompt is over all prompt tokens but the first",
        "runs": runs,
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(OUTPUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
