"""Compares two files of `asft score` lines: same rows, same token counts, log-prob sums within tolerance.

    python goldens/compare_scores.py A B --rel 2e-3 --abs 0.02

A sum passes when |a - b| <= abs + rel * |a|. Prints the worst differences; exits 1 on a miss.
"""

import argparse
import json
import sys


def read(path):
    with open(path, encoding="utf-8") as lines:
        return {row["index"]: row for row in map(json.loads, filter(str.strip, lines))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("--rel", type=float, default=2e-3)
    parser.add_argument("--abs", type=float, default=0.02)
    parser.add_argument("--show", type=int, default=5, help="how many of the worst differences to print")
    arguments = parser.parse_args()
    a, b = read(arguments.a), read(arguments.b)
    misses, found = [], []
    for name, here, there in ((arguments.a, a, b), (arguments.b, b, a)):
        only = sorted(here.keys() - there.keys())
        if only:
            misses.append(f"only in {name}: rows {only}")
    common = sorted(a.keys() & b.keys())
    if not common:
        misses.append("no row is in both files")
    for index in common:
        if a[index]["prompt_tokens"] != b[index]["prompt_tokens"]:
            misses.append(f"row {index}: prompt of {a[index]['prompt_tokens']} and {b[index]['prompt_tokens']} tokens")
        for side in ("chosen", "rejected"):
            x, y = a[index][side], b[index][side]
            if x["tokens"] != y["tokens"]:
                misses.append(f"row {index}: {side} of {x['tokens']} and {y['tokens']} tokens")
            difference = abs(x["logp_sum"] - y["logp_sum"])
            allowed = arguments.abs + arguments.rel * abs(x["logp_sum"])
            found.append((difference / allowed, difference, index, side, x["logp_sum"], y["logp_sum"]))
            if not difference <= allowed:
                misses.append(f"row {index}: {side} sums {x['logp_sum']:.6f} and {y['logp_sum']:.6f}")
    found.sort(reverse=True)
    print(f"{len(common)} rows compared; worst differences:")
    for used, difference, index, side, x, y in found[: arguments.show]:
        print(f"  row {index} {side}: {x:.6f} and {y:.6f}, off by {difference:.2e}, {used:.1%} of what is allowed")
    for miss in misses:
        print(f"MISS {miss}")
    sys.exit(1 if misses else 0)


if __name__ == "__main__":
    main()
