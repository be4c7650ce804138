"""Which detector speaks for which metric, and where its weights lie."""

import importlib
import json
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.evaluation.detectors.interface import Detector

ROLES = ("fvd", "is", "pca")  # Frechet distance, inception score, Frechet distance in a second embedding
INDEX = "detectors.json"
KINDS = {  # one line a kind
    "demo-conv3d": "pipeline.evaluation.detectors.conv3d:DemoConv3d",
    "i3d-kinetics400": "pipeline.evaluation.detectors.i3d:I3D",
    "c3d-ucf101": "pipeline.evaluation.detectors.c3d:C3D",
    "demo-pca": "pipeline.evaluation.detectors.pca:DemoPca",
}


def save_detectors(folder: Path, detectors: dict[str, Detector]) -> None:
    """Write one detector a role of ``ROLES``; a detector with several roles is stored once."""
    for detector in detectors.values():
        detector.save(folder / detector.identity.name)
    index = {role: detectors[role].identity.name for role in ROLES}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")


def load_detectors(folder: Path) -> dict[str, Detector]:
    """Detectors by role; raises PipelineError where the folder holds none or an unknown kind."""
    try:
        index = json.loads((folder / INDEX).read_text())
        names = [index[role] for role in ROLES]
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise PipelineError(
            f"{folder / INDEX} names no detector for each of {ROLES} ({error}); run the stage detectors"
        ) from None
    loaded = {name: _kind(name).load(folder / name) for name in dict.fromkeys(names)}
    return {role: loaded[name] for role, name in zip(ROLES, names, strict=True)}


def _kind(name: str):
    if name not in KINDS:
        raise PipelineError(f"detector {name!r} is unknown (there are: {', '.join(KINDS)})")
    module, attribute = KINDS[name].split(":")
    return getattr(importlib.import_module(module), attribute)
