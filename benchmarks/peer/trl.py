"""TRL training on preference pairs, measured: seconds of each step, peak memory, losses.

The trainer is ORPOTrainer with the loss of ASFT (arXiv 2409.10571), batches in file order, one batch a step. The
pairs are JSON Lines with `prompt`, `chosen` and `rejected` as lists of `{role, content}`. Prints one JSON object
with the keys of `asft bench train` as the last line. Needs trl, transformers, datasets, accelerate and torch.

Two conventions of that trainer matter when losses are compared. Its negative log-likelihood runs over prompt and
chosen answer as a mean over the tokens of the batch. And it adds a BOS and an EOS token where the rendered text
does not begin or end with one, as after ChatML's closing newline; here both are left out again, so that exactly
the tokens of the rendered text are trained on.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time

# This folder holds a trl.py, which must not be found in place of the package.
sys.path = [folder for folder in sys.path if not os.path.exists(os.path.join(folder or ".", "trl_tokenize.py"))]

import datasets
import torch
import torch.nn.functional as F
import transformers
import trl
from torch.utils.data import SequentialSampler
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

DTYPES = {
    "f32": "f32 throughout",
    "bf16": "bf16 autocast over f32 weights",
    "bf16full": "bf16 weights and optimizer states",
}


class AsftTrainer(ORPOTrainer):
    """ORPO's trainer with ASFT's loss, which remembers the loss of every step."""

    def __init__(self, *args, **kwargs):
        self.losses, self.padded_tokens = [], 0
        super().__init__(*args, **kwargs)

    def odds_ratio_loss(self, policy_chosen_logps, policy_rejected_logps):
        chosen, rejected = policy_chosen_logps.float(), policy_rejected_logps.float()
        # log(p / (1 - p)) of each answer's length-normalised likelihood.
        chosen_odds = chosen - torch.log(-torch.expm1(chosen))
        rejected_odds = rejected - torch.log(-torch.expm1(rejected))
        align = F.softplus(-chosen_odds) + F.softplus(rejected_odds)
        margin = chosen_odds - rejected_odds
        # The caller subtracts the first of these from the likelihood term.
        return -self.beta * align, self.beta * chosen.detach(), self.beta * rejected.detach(), -align.mean(), margin.mean()

    def tokenize_row(self, feature, model=None):
        row = super().tokenize_row(feature, model)
        encode = lambda text: self.processing_class(text, add_special_tokens=False)["input_ids"]
        prompt = len(encode(feature["prompt"]))
        for side in ["chosen", "rejected"]:
            ids = encode(feature["prompt"] + feature[side])[: self.max_length]
            row[f"{side}_input_ids"] = ids
            row[f"{side}_attention_mask"] = [1] * len(ids)
            row[f"{side}_labels"] = [-100] * prompt + ids[prompt:]
        return row

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        rows, chosen = inputs["chosen_input_ids"].shape
        self.padded_tokens += 2 * rows * max(chosen, inputs["rejected_input_ids"].shape[1])
        loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        self.losses.append(loss.item())
        return loss

    def _get_train_sampler(self, *args, **kwargs):
        return SequentialSampler(self.train_dataset)


class StepTimes(transformers.TrainerCallback):
    """When each step begins and ends."""

    def __init__(self):
        self.begins, self.ends = [], []

    def on_step_begin(self, *args, **kwargs):
        self.begins.append(time.perf_counter())

    def on_step_end(self, *args, **kwargs):
        self.ends.append(time.perf_counter())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hugging Face directory")
    parser.add_argument("--data", required=True, help="pairs as conversations, JSON Lines")
    parser.add_argument("--pairs", type=int, default=12, help="pairs to train on, from the first")
    parser.add_argument("--pairs-per-step", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--dtype", choices=list(DTYPES), default="bf16")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    with open(arguments.data, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][: arguments.pairs]
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    dtype = torch.bfloat16 if arguments.dtype == "bf16full" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype)
    times = StepTimes()
    with tempfile.TemporaryDirectory() as output:
        settings = ORPOConfig(
            output_dir=output,
            beta=0.1,
            max_length=arguments.max_length,
            per_device_train_batch_size=arguments.pairs_per_step,
            gradient_accumulation_steps=1,
            num_train_epochs=1,
            learning_rate=1e-5,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            max_grad_norm=1.0,
            bf16=arguments.dtype == "bf16",
            gradient_checkpointing=False,
            use_cpu=True,
            dataloader_pin_memory=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=0,
        )
        trainer = AsftTrainer(
            model=model,
            args=settings,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[times],
        )
        trainer.train()
    whole = times.ends[-1] - times.begins[0]
    steps = len(times.ends)
    tokens = sum(map(len, trainer.train_dataset["chosen_input_ids"])) + sum(
        map(len, trainer.train_dataset["rejected_input_ids"])
    )
    result = {
        "seconds_per_step": whole / steps,
        "step_seconds": [end - begin for begin, end in zip(times.begins, times.ends)],
        "pairs_per_second": len(rows) / whole,
        "tokens_per_second": tokens / whole,
        # Linux counts KiB.
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "pairs": len(rows),
        "tokens": tokens,
        "padded_tokens": trainer.padded_tokens,
        "losses": trainer.losses,
        "dtype": DTYPES[arguments.dtype],
        "threads": arguments.threads,
        "versions": {m.__name__: m.__version__ for m in [torch, transformers, trl, datasets]},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
