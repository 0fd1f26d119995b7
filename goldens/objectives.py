"""Expected losses, derivatives and metrics of the objectives, from their plain definitions.

    python goldens/objectives.py > crates/asft-core/tests/goldens/objectives.json     (needs mpmath)

Everything is computed with 400 digits, where the definitions need no safe form: log(1 - p) is written as it stands,
and derivatives are numerical ones of the loss itself. Only the guard is more than a definition: below eps each side's
function of a = -l is its tangent at eps, whose slope is a numerical derivative as well. Inputs are exact in f32.
Keys are those of the configuration tables; the file has the form `asft objective --input` reads.
"""

import json
import struct

from mpmath import exp, log, mp, mpf

mp.dps = 400
STEP = mpf(10) ** -120
DEFAULTS = {
    "asft": {"beta": 0.1, "temperature": 1.0, "nll_weight": 1.0, "eps": 1e-4},
    "sft": {"nll_weight": 1.0, "eps": 1e-4},
    "orpo": {"beta": 0.1, "nll_weight": 1.0, "eps": 1e-4},
}


def slope(f, x):
    return (f(x + STEP) - f(x - STEP)) / (2 * STEP)


def guarded(f, eps):
    """f above eps, its tangent at eps below; the tangent is taken from above, where f is the definition."""
    value, rate = f(eps), slope(f, eps)
    return lambda a: f(a) if a >= eps else value + rate * (a - eps)


def softplus(x):
    return log(1 + exp(x))


def odds_complement(a):
    return -log(1 - exp(-a))


def log_odds(a, eps):
    return guarded(odds_complement, eps)(a) - a


def align(name, h, a_w, a_l):
    """The preference part, as a function of both per-token NLLs."""
    eps = h["eps"]
    if name == "sft":
        return mpf(0)
    if name == "orpo":
        return softplus(log_odds(a_l, eps) - log_odds(a_w, eps))
    tau = h["temperature"]
    chosen = lambda a: softplus(-tau * (odds_complement(a) - a))
    rejected = lambda a: softplus(tau * (odds_complement(a) - a))
    if tau == 1:
        keep = a_w  # sp(-o) = -log p, for every a
    elif tau < 1:
        keep = guarded(chosen, eps)(a_w)
    else:
        keep = chosen(a_w) if a_w > 0 else mpf(0)
    return keep + guarded(rejected, eps)(a_l)


def settings(name, hyper):
    h = {**DEFAULTS[name], **hyper}
    return {key: mpf(value) if isinstance(value, (int, float)) else value for key, value in h.items()}


def nll(h, pair, sums, step):
    """A pair's NLL, such that the mean over the step's pairs is the step's."""
    prompt = h.get("nll_scope", "response") == "prompt_response"
    tokens = lambda p: p["chosen"]["tokens"] + (p["prompt"]["tokens"] if prompt else 0)
    total = sums["chosen"] + (sums["prompt"] if prompt else 0)
    if h.get("nll_reduction", "pair") == "pair":
        return -total / tokens(pair)
    return -total * len(step) / sum(tokens(p) for p in step)


def loss(name, h, pair, sums, step):
    total = mpf(0)
    if h["nll_weight"] != 0:
        total += h["nll_weight"] * nll(h, pair, sums, step)
    if h.get("beta", 0) != 0:
        a_w, a_l = (-sums[side] / pair[side]["tokens"] for side in ("chosen", "rejected"))
        total += h["beta"] * align(name, h, a_w, a_l)
    return total


def evaluate(name, hyper, pair, step):
    h = settings(name, hyper)
    sums = {side: mpf(pair[side]["logp_sum"]) for side in pair}
    l_w, l_l = (sums[side] / pair[side]["tokens"] for side in ("chosen", "rejected"))
    beta = h.get("beta", mpf(1))
    o_w, o_l = log_odds(-l_w, h["eps"]), log_odds(-l_l, h["eps"])
    metrics = {
        "loss": loss(name, h, pair, sums, step),
        "nll": nll(h, pair, sums, step),
        "align": align(name, h, -l_w, -l_l),
        "logps_chosen": l_w,
        "logps_rejected": l_l,
        "margin": l_w - l_l,
        "accuracy": mpf(l_w > l_l),
        "logps_sum_chosen": sums["chosen"],
        "logps_sum_rejected": sums["rejected"],
        "rewards_chosen": beta * l_w,
        "rewards_rejected": beta * l_l,
        "rewards_margin": beta * (l_w - l_l),
        "rewards_accuracy": mpf(l_w > l_l),
        "log_odds_chosen": o_w,
        "log_odds_rejected": o_l,
        "log_odds_margin": o_w - o_l,
    }
    grads = {}
    for side in ("chosen", "rejected", "prompt"):
        if side == "prompt" and hyper.get("nll_scope") != "prompt_response":
            continue
        by = lambda s: loss(name, h, pair, {**sums, side: s}, step)
        grads["grad_" + side] = slope(by, sums[side]) / len(step)
    return metrics, grads


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def pair(chosen, rejected, prompt=None):
    named = {"chosen": chosen, "rejected": rejected, "prompt": prompt}
    return {k: {"logp_sum": f32(v[0]), "tokens": v[1]} for k, v in named.items() if v}


def case(id, name, hyper, p):
    metrics, grads = evaluate(name, hyper, p, [p])
    expected = {"loss": metrics["loss"], **grads, "metrics": metrics}
    return {"id": id, "objective": name, "hyper": hyper, **p, "expected": plain(expected)}


def batch(id, name, hyper, pairs, splits):
    results = [evaluate(name, hyper, p, pairs) for p in pairs]
    mean = lambda key: sum(metrics[key] for metrics, _ in results) / len(pairs)
    expected = {"loss": mean("loss")}
    for key in results[0][1]:
        expected[key] = [grads[key] for _, grads in results]
    expected["metrics"] = {key: mean(key) for key in results[0][0]}
    return [
        {"id": f"{id}-{i}", "objective": name, "hyper": hyper, "pairs": pairs, "micro_batches": split,
         "expected": plain(expected)}
        for i, split in enumerate(splits)
    ]


def plain(x):
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    return [plain(v) for v in x] if isinstance(x, list) else float(x)


TYPICAL = pair((-75.5, 60), (-41.25, 33), (-130.0, 52))
SURE_REJECTED = pair((-21.0, 14), (-2.5e-6, 3))
SURE_CHOSEN = pair((-2.5e-6, 3), (-21.0, 14))
PAST_ONE = pair((-9.0, 6), (3e-7, 2))
TINY = pair((-1500.0, 3), (-1200.0, 2))
PAIRS = [TYPICAL, pair((-3.0, 8), (-44.0, 20), (-12.5, 5)), pair((-512.0, 700), (-0.125, 2), (-64.0, 31)),
         pair((-17.0, 9), (-17.0, 9), (0.0, 0))]
SPLITS = [[[0, 1, 2, 3]], [[0], [1, 2, 3]], [[3, 1], [0, 2]]]
TRL = {"nll_scope": "prompt_response", "nll_reduction": "token"}

cases = [case(f"{name}-{label}", name, hyper, p) for name, hypers in {
    "asft": [{}, {"beta": 0.5, "nll_weight": 0.25}, {"temperature": 0.5}, {"temperature": 3.0, "eps": 1e-3}],
    "sft": [{}],
    "orpo": [{}, {"beta": 0.75, "eps": 1e-2}],
}.items() for i, hyper in enumerate(hypers) for label, p in {
    f"{i}-typical": TYPICAL, f"{i}-sure-rejected": SURE_REJECTED, f"{i}-sure-chosen": SURE_CHOSEN,
    f"{i}-past-one": PAST_ONE, f"{i}-tiny": TINY,
}.items()]
cases += [case(f"{name}-prompt", name, {"nll_scope": "prompt_response"}, TYPICAL) for name in DEFAULTS]
batches = [b for name in DEFAULTS for i, hyper in enumerate([{}, {"nll_reduction": "token"}, TRL])
           for b in batch(f"{name}-{i}", name, hyper, PAIRS, SPLITS[:1] if i == 0 else SPLITS[1:])]

print("{\"schema\": 1, \"kind\": \"objectives\", \"computed_with\": \"goldens/objectives.py, mpmath, 400 digits\",")
for key, rows, end in (("cases", cases, ","), ("batches", batches, "}")):
    print(f"\"{key}\": [\n" + ",\n".join(json.dumps(row) for row in rows) + "]" + end)
