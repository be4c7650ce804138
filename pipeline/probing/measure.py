"""A leakage probe: motion of one-step predictions over t, against the clips' own, and its files."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.evaluation.motion import Flow, measure_motion

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
    details: dict


def measure_probe(
    predictions: Callable[[float], Tensor],
    times: Sequence[float],
    x0: Tensor,
    decode: Callable[[Tensor], np.ndarray],
    motion: tuple[int, int, Flow],
) -> tuple[list[float], list[list[float]], np.ndarray]:
    """Motion of the clips ``x0`` and of ``predictions(time)`` of them, and a strip of the first clip.

    ``decode``: latents (B, C, F, h, w) to uint8 (B, F, H, W, 3); the strip is (1 + times, F, H, W, 3), the clip first.
    """
    height, width, flow = motion

    def moved(frames: np.ndarray) -> list[float]:
        return [measure_motion(clip, height, width, flow).pixels_per_frame for clip in frames]

    own = decode(x0)
    strip, rows = [own[0]], []
    for time in times:
        frames = decode(predictions(time))
        strip.append(frames[0])
        rows.append(moved(frames))
    return moved(own), rows, np.stack(strip)


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
