"""Seconds and memory of a job whose shards were made by several processes."""

import contextlib
import json
import resource
import time
from pathlib import Path

from pipeline.engine.parts import Shard


def note_cost(state: Path, shard: Shard, wall_s: float) -> None:
    """Leave what one shard took, with this process' memory, for the job that joins them."""
    path = state / "costs" / f"{shard}-{time.time_ns()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps({"wall_s": wall_s, "peak_memory_mb": peak_memory_mb()}))
    temporary.replace(path)


def shard_costs(state: Path) -> list[dict[str, float]]:
    """Seconds and memory (MB) of each shard; what a power cut left empty is left out."""
    costs = []
    for path in (state / "costs").glob("*.json"):
        with contextlib.suppress(ValueError):
            costs.append(json.loads(path.read_text()))
    return costs


def peak_memory_mb() -> float:
    """The most memory that this process, or one that it started and that has ended, has had."""
    kib = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return kib / 1024
