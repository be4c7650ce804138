"""The state of a training on disk, one file; and its losses, a line a step.

The state is the same whatever the number of processes: weights, optimiser and step. Random numbers are drawn anew
from (seed, step, clip), so that no generator belongs to it. On the disk it takes at most twice its size: the last
state stays until the next one is whole.
"""

import json
import os
import shutil
from pathlib import Path
from typing import IO

import torch

from pipeline.errors import PipelineError

STATE_FILE = "training.pt"  # in a training's state folder


def save_state(path: Path, step: int, parts: dict) -> None:
    """Replace the state by that after ``step`` steps; ``parts``: what has a state_dict, or state dicts.

    Raises PipelineError where it cannot be written; the last state is then still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    states = {name: part if isinstance(part, dict) else part.state_dict() for name, part in parts.items()}
    try:
        torch.save({"step": step, **states}, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch tells of a full disk by a RuntimeError
        partial.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free / 2**30
        raise PipelineError(
            f"the training state after step {step} could not be written to {path.parent} ({_first_line(error)}; "
            f"{free:.1f} GiB free); make room and run again: it goes on from the state before"
        ) from error
    _sync_folder(path.parent)


def load_state(path: Path, mapped: bool) -> dict | None:
    """The last state, on the CPU; None where there is none. ``mapped``: read piece by piece as it is copied elsewhere.

    Raises PipelineError for a file that is not one.
    """
    path.with_suffix(".partial").unlink(missing_ok=True)  # of a run that was killed
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise PipelineError(
            f"{path} is damaged ({_first_line(error)}); delete it, and the training begins anew"
        ) from None


def losses_until(path: Path, step: int) -> IO[str]:
    """The losses file, cut back to the steps before ``step`` and open for more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = []
    if path.exists():
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] < step]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(kept))
    partial.replace(path)
    return path.open("a")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
