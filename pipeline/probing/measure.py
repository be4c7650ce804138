"""A leakage probe: how one-step predictions move over t, against the clips' own motion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pipeline.evaluation.motion import Flow, mean_speed, native_flow


@dataclass(frozen=True)
class ProbeMeasurement:
    """Motion in pixels a frame; lists by time and clip."""

    truth: list[float]  # mean speed of each clip
    motion: list[list[float]]  # of its predictions
    truth_square: list[float]  # mean squared speed of each clip
    along: list[list[float]]  # mean product of the predictions' flow with the clip's, in which noise cancels
    strip: np.ndarray  # (1 + times, F, H, W, 3): the first clip, then its predictions

    @classmethod
    def joined(cls, parts: "Sequence[ProbeMeasurement]") -> "ProbeMeasurement":
        """Measurements of several sets of clips as one; the strip is the first's."""
        return cls(
            truth=[value for part in parts for value in part.truth],
            motion=[[value for row in rows for value in row] for rows in zip(*(p.motion for p in parts), strict=True)],
            truth_square=[value for part in parts for value in part.truth_square],
            along=[[value for row in rows for value in row] for rows in zip(*(p.along for p in parts), strict=True)],
            strip=parts[0].strip if parts else np.zeros(0, np.uint8),
        )


def measure_probe(
    predictions: Callable[[float], Tensor],
    times: Sequence[float],
    x0: Tensor,
    decode: Callable[[Tensor], np.ndarray],
    motion: tuple[int, int, Flow],
) -> ProbeMeasurement:
    """Motion of the clips ``x0`` and of ``predictions(time)`` of them.

    ``decode``: latents (B, C, F, h, w) to uint8 (B, F, H, W, 3).
    """
    height, width, flow = motion

    def flows(frames: np.ndarray) -> list[np.ndarray]:
        return [native_flow(clip, height, width, flow) for clip in frames]

    def products(first: list[np.ndarray], second: list[np.ndarray]) -> list[float]:
        return [float((a * b).sum(-1).mean(dtype=np.float64)) for a, b in zip(first, second, strict=True)]

    clips = decode(x0)
    own, strip, moved, along = flows(clips), [clips[0]], [], []
    for time in times:
        frames = decode(predictions(time))
        found = flows(frames)
        strip.append(frames[0])
        moved.append([mean_speed(each) for each in found])
        along.append(products(found, own))
    return ProbeMeasurement([mean_speed(each) for each in own], moved, products(own, own), along, np.stack(strip))
