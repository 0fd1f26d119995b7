"""Makes crates/asft-train/tests/goldens/tensorboard.json: an event file as TensorBoard's own package writes it.

    pip install tensorboard==2.21.0
    python goldens/event_file.py
"""

import io
import json
from importlib.metadata import version
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

OUTPUT = Path(__file__).parent.parent / "crates" / "asft-train" / "tests" / "goldens" / "tensorboard.json"
METRICS = {
    "loss": 1.25, "nll": 1.5, "align": 0.0, "logps_chosen": -1.5, "logps_rejected": -1.75, "margin": 0.25, "accuracy": 1.0,
    "logps_sum_chosen": -150.0, "logps_sum_rejected": -175.125, "rewards_chosen": -0.1, "rewards_rejected": -0.3,
    "rewards_margin": 0.2, "rewards_accuracy": 1.0, "log_odds_chosen": 0.5, "log_odds_rejected": -0.5, "log_odds_margin": 1.0,
}
TAIL = {"pairs": 4, "tokens": 5000, "seconds": 2.5, "pairs_per_second": 1.6, "tokens_per_second": 2000.0}
ROWS = [
    {"kind": "eval", "step": 0, "epoch": 0.0, **METRICS, **TAIL},
    {"kind": "train", "step": 300, "epoch": 0.75, **METRICS, "grad_norm": 3.25, "learning_rate": 1e-5, **TAIL,
     "peak_memory_bytes": 3_950_000_000},
]
WALL_TIMES = [1700000000.25, 1700000001.0, 1700000123.5]


class Kept(io.BytesIO):
    """RecordWriter closes what it writes to."""

    def close(self):
        pass


def main():
    file = Kept()
    writer = RecordWriter(file)
    writer.write(Event(wall_time=WALL_TIMES[0], file_version="brain.Event:2").SerializeToString())
    for row, wall_time in zip(ROWS, WALL_TIMES[1:]):
        values = [
            Summary.Value(tag=f"{row['kind']}/{key}", simple_value=value)
            for key, value in row.items() if key not in ("kind", "step")
        ]
        event = Event(wall_time=wall_time, step=row["step"], summary=Summary(value=values))
        writer.write(event.SerializeToString())
    writer.close()
    made = {
        "made_by": "goldens/event_file.py", "tensorboard": version("tensorboard"),
        "rows": ROWS, "wall_times": WALL_TIMES, "file": file.getvalue().hex(),
    }
    OUTPUT.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
