"""TRL's preparation of a preference data set: the seconds that a trainer's constructor spends in `Dataset.map`
and `Dataset.filter`, and how many tokens come out.

The pairs are JSON Lines with `prompt`, `chosen` and `rejected` as lists of `{role, content}`. The trainer gets a
random model of no size to speak of, so that building it costs nothing. Loading the file and the tokenizer is not
counted. Prints one JSON object. Needs trl, transformers, datasets and torch.
"""

import argparse
import json
import os
import sys
import tempfile
import time

# This folder holds a trl.py, which must not be found in place of the package.
sys.path = [folder for folder in sys.path if not os.path.exists(os.path.join(folder or ".", "trl_tokenize.py"))]

import datasets
import torch
import transformers
import trl


def timed(method, spent):
    """`method` of a data set, its seconds added to `spent`; calls from within itself are not counted twice."""

    def run(*args, **kwargs):
        outermost, spent["depth"] = spent["depth"] == 0, spent["depth"] + 1
        start = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            spent["depth"] -= 1
            if outermost:
                spent["seconds"] += time.perf_counter() - start

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="directory with tokenizer.json and a chat template")
    parser.add_argument("--data", required=True, help="pairs as conversations, JSON Lines")
    parser.add_argument("--trainer", choices=["orpo", "dpo"], default="orpo")
    parser.add_argument("--processes", type=int, default=1, help="dataset_num_proc")
    parser.add_argument("--max-length", type=int, default=2048)
    arguments = parser.parse_args()

    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    shape = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), **shape)
    with open(arguments.data, encoding="utf-8") as file:
        rows = datasets.Dataset.from_list([json.loads(line) for line in file])
    datasets.disable_caching()

    if arguments.trainer == "orpo":
        from trl.experimental.orpo import ORPOConfig as Config, ORPOTrainer as Trainer
    else:
        from trl import DPOConfig as Config, DPOTrainer as Trainer
    spent = {"seconds": 0.0, "depth": 0}
    for name in ["map", "filter"]:
        setattr(datasets.Dataset, name, timed(getattr(datasets.Dataset, name), spent))
    with tempfile.TemporaryDirectory() as output:
        # From a file, since DPO's trainer reads the reference model from where the model was read.
        transformers.LlamaForCausalLM(config).save_pretrained(output)
        model = transformers.LlamaForCausalLM.from_pretrained(output)
        settings = Config(
            output_dir=output,
            max_length=arguments.max_length,
            # None maps in this process; 1 would start one other.
            dataset_num_proc=arguments.processes if arguments.processes > 1 else None,
            use_cpu=True,
            bf16=False,
            report_to="none",
            disable_tqdm=True,
        )
        start = time.perf_counter()
        trainer = Trainer(model=model, args=settings, train_dataset=rows, processing_class=tokenizer)
        constructor = time.perf_counter() - start
    prepared = trainer.train_dataset
    # ORPO's answers come behind their prompts, DPO's alone.
    columns = {"orpo": ["chosen_input_ids", "rejected_input_ids"], "dpo": ["chosen_ids", "rejected_ids"]}
    prompt = {"orpo": "prompt_input_ids", "dpo": "prompt_ids"}[arguments.trainer]
    count = lambda column: sum(len(ids) for ids in prepared[column])
    answers = sum(count(column) for column in columns[arguments.trainer])
    if arguments.trainer == "orpo":
        answers -= 2 * count(prompt)
    result = {
        "trainer": arguments.trainer,
        "processes": arguments.processes,
        "seconds": spent["seconds"],
        "constructor_seconds": constructor,
        "rows": len(prepared),
        "prompt_tokens": count(prompt),
        "response_tokens": answers,
        "versions": {m.__name__: m.__version__ for m in [torch, transformers, trl, datasets]},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
