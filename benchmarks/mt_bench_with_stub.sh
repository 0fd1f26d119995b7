#!/bin/sh
# The whole of MT-Bench without a judge to pay: a model answers, a stub on this machine judges, scores are shown.
# The stub's ratings are made up, so the scores say nothing of the model; the way is the real one.
#
#   benchmarks/mt_bench_with_stub.sh MODEL question.jsonl REFERENCES.jsonl [MAX_NEW_TOKENS]
set -eu
model=$1 questions=$2 references=$3 tokens=${4:-128}
asft=${ASFT:-target/release/asft}
work=$(mktemp -d)
stub=
trap 'test -z "$stub" || kill "$stub"; rm -r "$work"' EXIT

"$asft" eval mt-bench answer --model "$model" --model-id model --questions "$questions" \
    --output "$work/model.jsonl" --max-new-tokens "$tokens"
"$asft" eval judge stub --behave hash > "$work/address" &
stub=$!
until test -s "$work/address"; do sleep 0.1; done
"$asft" eval mt-bench judge --questions "$questions" --answers "$work/model.jsonl" --references "$references" \
    --judge-model stub --base-url "$(head -n 1 "$work/address")" --cache "$work/cache" --output "$work/judged.jsonl"
"$asft" eval mt-bench show --judgments "$work/judged.jsonl" --questions "$questions" --cache "$work/cache"
