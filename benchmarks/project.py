"""What the benchmarks share: a fresh clone of this commit, and what its tracked runs recorded."""

import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline import presets, tracking  # noqa: E402

ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # for what they start


def clone(folder: Path, preset: str, changes: dict | None = None) -> Path:
    """A clone of the committed project in ``folder`` with a preset and an overlay of it."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    tree = presets.preset(folder / "presets", preset)
    presets.overlay(tree, changes or {})
    presets.write(tree, folder / "params.yaml")
    return folder


def seconds(folder: Path, *command: str) -> float:
    """Wall time of a command in ``folder``; its output goes to command.log beside it. Raises where it fails."""
    started = time.monotonic()
    with (folder.parent / "command.log").open("a") as log:
        subprocess.run(command, cwd=folder, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT, check=True)
    return time.monotonic() - started


def recorded(folder: Path, metric: str) -> dict[str, list[float]]:
    """A metric of every tracked stage run, by stage."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking.tracking_uri(folder))
    found = defaultdict(list)
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id], max_results=5000):
            if metric in run.data.metrics:
                found[run.data.tags["pipeline.stage"]].append(run.data.metrics[metric])
    return dict(found)
