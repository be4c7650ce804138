"""A leakage probe: motion of one-step predictions over t, against the clips' own."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from pipeline.evaluation.motion import Flow, measure_motion


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
