"""The metric files of the runs that a table shows."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.evaluation.metric_file import Measurement, read_metrics
from pipeline.reporting.rows import Run, runs_of


def read_runs(stage) -> tuple[dict[str, Run], dict[str, Measurement], dict[str, Measurement]]:
    """Of a stage whose inputs are the controls' metric file and folders of groups: runs, their measurements, controls.

    The runs are those of these groups.
    """
    controls_file, *folders = stage.inputs
    runs = runs_of(stage.params.runs)
    measured = read_measured(folders, runs, stage.log)
    return {name: run for name, run in runs.items() if name in measured}, measured, read_metrics(controls_file)


def read_measured(folders: Iterable[Path], runs: Mapping[str, Run], log: logging.Logger) -> dict[str, Measurement]:
    """Measurements of the runs of the groups that ``folders`` are named after."""
    measured = {}
    for folder in folders:
        own = [name for name, run in runs.items() if run.group == folder.name]
        forget_others(folder, set(own), log)
        measured |= {name: read_metrics(folder / f"{name}.json")[""] for name in own}
    return measured


def forget_others(folder: Path, known: set[str], log: logging.Logger) -> None:
    """Remove the metric files of ``folder`` that are of nothing in ``known``."""
    # DVC hashes the whole folder: the file of a row that params.yaml no longer has would make a fresh clone, which
    # never had that row, look stale. It is measured again when the row comes back.
    for path in sorted(folder.glob("*.json")):
        if path.stem not in known:
            log.info("removing %s, which params.yaml does not name any more", path.name)
            path.unlink()
