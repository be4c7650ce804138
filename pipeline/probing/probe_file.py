"""A leakage probe on disk: its numbers as JSON, its strip of frames as an array."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import PipelineError

NUMBERS, STRIP = "probe.json", "strip.npy"


@dataclass(frozen=True)
class Probe:
    """Motion in pixels a frame."""

    backbone: str
    weights: str  # or "perfect"
    process: str  # vp: times are fractions of T; ve: sigmas
    times: list[float]
    training_share: list[float]  # of the draws of t in training, near each time
    truth: list[float]  # motion of each clip, through the VAE
    motion: list[list[float]]  # of the predictions, by time and clip
    truth_square: list[float]  # mean squared speed of each clip
    along: list[list[float]]  # mean product of the predictions' flow with the clip's, by time and clip
    details: dict


def write_probe(folder: Path, probe: Probe, strip: np.ndarray) -> None:
    """Write numbers and strip into ``folder``, which is created."""
    folder.mkdir(parents=True)
    (folder / NUMBERS).write_text(json.dumps(asdict(probe), indent=1) + "\n")
    np.save(folder / STRIP, strip, allow_pickle=False)


def read_probe(folder: Path) -> tuple[Probe, np.ndarray]:
    """Read what ``write_probe`` wrote; raises PipelineError where a part is missing or damaged."""
    try:
        probe = Probe(**json.loads((folder / NUMBERS).read_text()))
        return probe, np.load(folder / STRIP, allow_pickle=False)
    except (OSError, TypeError, ValueError) as error:
        raise PipelineError(f"{folder} holds no probe ({error}); run the stage that makes it again") from None
