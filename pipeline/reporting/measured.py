"""The metric files of the runs that a table shows."""

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
    measured = read_measured(folders, runs)
    return {name: run for name, run in runs.items() if name in measured}, measured, read_metrics(controls_file)


def read_measured(folders: Iterable[Path], runs: Mapping[str, Run]) -> dict[str, Measurement]:
    """Measurements of the runs of the groups that ``folders`` are named after."""
    measured = {}
    for folder in folders:
        own = [name for name, run in runs.items() if run.group == folder.name]
        measured |= {name: read_metrics(folder / f"{name}.json")[""] for name in own}
    return measured
