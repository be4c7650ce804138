"""Runs as tables know them, and which of them fill the cells of table 3."""

from collections.abc import Mapping
from dataclasses import dataclass

BACKBONES = {"videocrafter1": "VideoCrafter1", "dynamicrafter": "DynamiCrafter", "svd": "SVD"}
ROWS = (("standard", "finetune"), ("analytic", "finetune"), ("standard", "timenoise"), ("analytic", "timenoise"))


@dataclass(frozen=True)
class Run:
    """One sampled run, as params.yaml names it."""

    name: str
    backbone: str
    training: str  # weights: <backbone>-finetune, <backbone>-timenoise, <backbone>-initial or another training
    init: str  # standard or analytic
    start: float  # on UCF101; VP: fraction of T, VE: sigma
    group: str  # the table that it was made for; others may show it too
    motion_bucket: float | None = None  # asked; None: its backbone's own


def runs_of(specs: Mapping[str, object]) -> dict[str, Run]:
    """The ``runs`` of params.yaml."""
    return {
        name: Run(name, spec.backbone, spec.training, spec.init, spec.start.ucf101, spec.group, spec.motion_bucket)
        for name, spec in specs.items()
    }


def run_of_cell(runs: Mapping[str, Run], init: str, train: str, backbone: str) -> Run | None:
    """The first run listed for this cell of table 3; None where params.yaml has none."""
    fits = (
        run
        for run in runs.values()
        if (run.backbone, run.training, run.init) == (backbone, f"{backbone}-{train}", init)
    )
    return next(fits, None)
