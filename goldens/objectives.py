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
    "asft": {"beta": 0.1, "temperature": 1.0, "nll_weight": 1.0},
    "sft": {"nll_weight": 1.0},
    "orpo": {"beta": 0.1, "nll_weight": 1.0},
    "simpo": {"beta": 2.0, "gamma_beta_ratio": 0.5, "label_smoothing": 0.0},
    "cpo": {"beta": 0.1, "label_smoothing": 0.0, "nll_weight": 1.0},
    "slic": {"beta": 0.1, "nll_weight": 1.0},
    "dpo": {"beta": 0.1, "label_smoothing": 0.0},
    "robust": {"beta": 0.1, "label_smoothing": 0.1},
    "hinge": {"beta": 0.1},
    "ipo": {"beta": 0.1},
    "sigmoid_norm": {"beta": 5.0},
    "nca": {"beta": 0.01},
    "bco": {"beta": 0.01, "delta": 0.0},
    "kto": {"beta": 0.1, "z": 0.0, "lambda_chosen": 1.0, "lambda_rejected": 1.0},
    "apo_down": {"beta": 0.1},
}
WITH_REFERENCE = {"dpo", "robust", "hinge", "ipo", "sigmoid_norm", "nca", "bco", "kto", "apo_down"}


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


def sigma(x):
    return 1 / (1 + exp(-x))


def align(name, h, s, T, ref):
    """The preference part. s, T and ref hold sums of log-probs, tokens and reference sums of both answers."""
    s_w, s_l = s["chosen"], s["rejected"]
    T_w, T_l = T["chosen"], T["rejected"]
    a_w, a_l = -s_w / T_w, -s_l / T_l
    r_w, r_l = s_w - ref["chosen"], s_l - ref["rejected"]
    beta = h.get("beta")
    logistic = lambda x: (1 - h["label_smoothing"]) * softplus(-x) + h["label_smoothing"] * softplus(x)
    definitions = {
        "sft": lambda: mpf(0),
        "asft": lambda: asft(h, a_w, a_l),
        "orpo": lambda: softplus(log_odds(a_l, h["eps"]) - log_odds(a_w, h["eps"])),
        "simpo": lambda: logistic(beta * (s_w / T_w - s_l / T_l - h["gamma_beta_ratio"])),
        "cpo": lambda: logistic(beta * (s_w - s_l)),
        "slic": lambda: max(mpf(0), 1 - beta * (s_w - s_l)),
        "dpo": lambda: logistic(beta * (r_w - r_l)),
        "robust": lambda: ((1 - h["label_smoothing"]) * softplus(-beta * (r_w - r_l))
                           - h["label_smoothing"] * softplus(beta * (r_w - r_l))) / (1 - 2 * h["label_smoothing"]),
        "hinge": lambda: max(mpf(0), 1 - beta * (r_w - r_l)),
        "ipo": lambda: (r_w / T_w - r_l / T_l - 1 / (2 * beta)) ** 2,
        "sigmoid_norm": lambda: softplus(-beta * (r_w / T_w - r_l / T_l)),
        "nca": lambda: softplus(-beta * r_w) + softplus(beta * r_w) / 2 + softplus(beta * r_l) / 2,
        "bco": lambda: softplus(h["delta"] - beta * r_w) + softplus(beta * r_l - h["delta"]),
        "kto": lambda: h["lambda_chosen"] * (1 - sigma(beta * (r_w - h["z"])))
                       + h["lambda_rejected"] * (1 - sigma(beta * (h["z"] - r_l))),
        "apo_down": lambda: sigma(beta * r_w) + 1 - sigma(beta * (r_w - r_l)),
    }
    return definitions[name]()


def asft(h, a_w, a_l):
    eps = h["eps"]
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
    h = {"nll_weight": 0.0, "eps": 1e-4, **DEFAULTS[name], **hyper}
    return {key: mpf(value) if isinstance(value, (int, float)) else value for key, value in h.items()}


def nll(h, pair, sums, step):
    """A pair's NLL, such that the mean over the step's pairs is the step's."""
    prompt = h.get("nll_scope", "response") == "prompt_response"
    tokens = lambda p: p["chosen"]["tokens"] + (p["prompt"]["tokens"] if prompt else 0)
    total = sums["chosen"] + (sums["prompt"] if prompt else 0)
    if h.get("nll_reduction", "pair") == "pair":
        return -total / tokens(pair)
    return -total * len(step) / sum(tokens(p) for p in step)


def align_of(name, h, pair, sums):
    tokens = {side: pair[side]["tokens"] for side in ("chosen", "rejected")}
    reference = {side: mpf(pair[side].get("ref_logp_sum", 0)) for side in ("chosen", "rejected")}
    return align(name, h, sums, tokens, reference)


def loss(name, h, pair, sums, step):
    total = mpf(0)
    if h["nll_weight"] != 0:
        total += h["nll_weight"] * nll(h, pair, sums, step)
    weight = h["beta"] if name in ("asft", "orpo") else 1
    if weight != 0:
        total += weight * align_of(name, h, pair, sums)
    return total


def reward(name, pair, sums, side):
    """Before scaling by beta."""
    if name in WITH_REFERENCE:
        return sums[side] - mpf(pair[side]["ref_logp_sum"])
    return sums[side] if name in ("cpo", "slic") else sums[side] / pair[side]["tokens"]


def evaluate(name, hyper, pair, step):
    h = settings(name, hyper)
    sums = {side: mpf(pair[side]["logp_sum"]) for side in pair}
    l_w, l_l = (sums[side] / pair[side]["tokens"] for side in ("chosen", "rejected"))
    beta = h.get("beta", mpf(1))
    reward_w, reward_l = (reward(name, pair, sums, side) for side in ("chosen", "rejected"))
    o_w, o_l = log_odds(-l_w, h["eps"]), log_odds(-l_l, h["eps"])
    metrics = {
        "loss": loss(name, h, pair, sums, step),
        "nll": nll(h, pair, sums, step),
        "align": align_of(name, h, pair, sums),
        "logps_chosen": l_w,
        "logps_rejected": l_l,
        "margin": l_w - l_l,
        "accuracy": mpf(l_w > l_l),
        "logps_sum_chosen": sums["chosen"],
        "logps_sum_rejected": sums["rejected"],
        "rewards_chosen": beta * reward_w,
        "rewards_rejected": beta * reward_l,
        "rewards_margin": beta * (reward_w - reward_l),
        "rewards_accuracy": mpf(reward_w > reward_l),
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


def with_reference(name, p, shift=(3.25, -2.5)):
    """The pair with reference sums that differ from the model's by `shift`, where the objective reads them."""
    if name not in WITH_REFERENCE:
        return p
    shifts = dict(zip(("chosen", "rejected"), shift))
    return {side: {**part, "ref_logp_sum": f32(part["logp_sum"] - shifts[side])} if side in shifts else part
            for side, part in p.items()}


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

EXTREMES = {"typical": TYPICAL, "sure-rejected": SURE_REJECTED, "sure-chosen": SURE_CHOSEN, "past-one": PAST_ONE,
            "tiny": TINY}
cases = [case(f"{name}-{i}-{label}", name, hyper, p) for name, hypers in {
    "asft": [{}, {"beta": 0.5, "nll_weight": 0.25}, {"temperature": 0.5}, {"temperature": 3.0, "eps": 1e-3}],
    "sft": [{}],
    "orpo": [{}, {"beta": 0.75, "eps": 1e-2}],
}.items() for i, hyper in enumerate(hypers) for label, p in EXTREMES.items()]
# Shifts of both answers from the reference: ordinary, the other way round, far beyond every kink and saturation, none.
SHIFTS = {"ahead": (3.25, -2.5), "behind": (-7.5, 4.0), "far": (2000.0, -900.0), "lost": (-2000.0, 900.0), "same": (0.0, 0.0)}
OTHERS = {
    "simpo": [{}, {"label_smoothing": 0.2, "nll_weight": 0.5}], "cpo": [{}, {"label_smoothing": 0.2, "nll_weight": 0.0}],
    "slic": [{}, {"beta": 0.5, "nll_weight": 0.0}], "dpo": [{}, {"label_smoothing": 0.2, "nll_weight": 0.5}],
    "robust": [{}, {"beta": 0.5, "label_smoothing": 0.3}], "hinge": [{}, {"beta": 0.5, "nll_weight": 1.0}],
    "ipo": [{}, {"beta": 0.5, "nll_weight": 1.0}], "sigmoid_norm": [{}, {"beta": 0.1, "nll_weight": 1.0}],
    "nca": [{}, {"beta": 0.5, "nll_weight": 1.0}], "bco": [{}, {"beta": 0.5, "delta": -0.75}],
    "kto": [{}, {"beta": 0.5, "z": 1.5, "lambda_chosen": 0.75, "lambda_rejected": 1.5}],
    "apo_down": [{}, {"beta": 0.5, "nll_weight": 1.0}],
}
cases += [case(f"{name}-{i}-{label}", name, hyper, p) for name, hypers in OTHERS.items()
          for i, hyper in enumerate(hypers) for label, p in (
              {label: with_reference(name, TYPICAL, shift) for label, shift in SHIFTS.items()}
              if name in WITH_REFERENCE else {**EXTREMES, "sure": pair((-2.5e-6, 3), (-900.0, 20))}).items()]
cases += [case(f"{name}-prompt", name, {"nll_scope": "prompt_response", **({} if name in ("sft", "orpo") else {"nll_weight": 1.0})},
               with_reference(name, TYPICAL)) for name in DEFAULTS]
batches = [b for name in DEFAULTS
           for i, hyper in enumerate([{}, {"nll_reduction": "token"}, TRL] if DEFAULTS[name].get("nll_weight") else [{}])
           for b in batch(f"{name}-{i}", name, hyper, [with_reference(name, p) for p in PAIRS],
                          SPLITS[:1] if i == 0 else SPLITS[1:])]

print("{\"schema\": 1, \"kind\": \"objectives\", \"computed_with\": \"goldens/objectives.py, mpmath, 400 digits\",")
for key, rows, end in (("cases", cases, ","), ("batches", batches, "}")):
    print(f"\"{key}\": [\n" + ",\n".join(json.dumps(row) for row in rows) + "]" + end)
