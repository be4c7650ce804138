"""One job that keeps a record, as a process: python -m tests.server.writer ROOT ITEM STEPS START

ROOT: its project; ITEM: its name; it waits for the file START, so that all write at once.
"""

import sys
import time
from pathlib import Path

from pipeline import tracking

PARAMS = 150  # more than one batch of MLflow's


def key(item: str) -> tracking.RunKey:
    return tracking.RunKey(
        stage="sample",
        item=item,
        params={"runs": {f"p{number}": f"{item}/{number}" for number in range(PARAMS)}},
        inputs={f"clips/{item}": f"input of {item}"},
        code={"pipeline/stages/sample.py": "abc"},
    )


def main(root: str, item: str, steps: int, start: str) -> None:
    while not Path(start).exists():
        time.sleep(0.05)
    tracking.FLUSH_SECONDS = 0.0  # every step is a request
    tracking.prepare_store(Path(root))
    record = tracking.open_record(
        Path(root), key(item), group=item, engine="snakemake", device="cpu", git_commit="0123"
    )
    for step in range(steps):
        record.metrics({"loss": step / 8, "gradient_norm": step + 0.5}, step=step)
    record.outputs({f"samples/{item}": f"output of {item}"})
    record.finish("FINISHED", [{"wall_s": float(item), "peak_memory_mb": 7.0}])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
