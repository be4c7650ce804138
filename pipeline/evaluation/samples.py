"""The manifest beside sampled clips: one JSON line a clip with its prompt, seed and every conditioning input."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import PipelineError

MANIFEST = "manifest.jsonl"
REQUIRED = ("id", "seed", "prompt", "condition_id")


def read_manifest(folder: Path) -> list[dict]:
    """Entries in file order; raises PipelineError where the file is missing, damaged or lacks a field."""
    path = folder / MANIFEST
    try:
        entries = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; run the stage sample again") from None
    except ValueError as error:
        raise PipelineError(f"{path} is damaged ({error}); run the stage sample again") from None
    for number, entry in enumerate(entries, 1):
        lacking = [name for name in REQUIRED if name not in entry]
        if lacking:
            raise PipelineError(f"{path}, line {number}: {', '.join(lacking)} missing; run the stage sample again")
    return entries


def sampling_seeds(folder: Path, ids: Sequence[str]) -> list[int]:
    """Sampling seed of each id, in the order of ``ids``; raises PipelineError for clips that the manifest lacks."""
    return _of_each(folder, ids, "seed")


def condition_ids(folder: Path, ids: Sequence[str]) -> list[str]:
    """The clip whose first frame is the condition of each id; raises PipelineError as ``sampling_seeds``."""
    return _of_each(folder, ids, "condition_id")


def asked_motion(folder: Path) -> float | None:
    """The motion bucket that all clips were asked for; None where the model is told none."""
    asked = {entry.get("motion_bucket") for entry in read_manifest(folder)}
    if len(asked) > 1:
        raise PipelineError(f"{folder / MANIFEST} names several motion buckets: {sorted(asked, key=str)}; one a run")
    return asked.pop() if asked else None


def _of_each(folder: Path, ids: Sequence[str], field: str) -> list:
    entries = read_manifest(folder)
    values = {entry["id"]: entry[field] for entry in entries}
    if len(values) < len(entries):
        raise PipelineError(f"{folder / MANIFEST} names a clip twice; each sampling seed needs ids of its own")
    unknown = [name for name in ids if name not in values]
    if unknown:
        raise PipelineError(f"{folder / MANIFEST} does not name the clips {unknown[:5]}; run the stage sample again")
    return [values[name] for name in ids]
