"""Motion and temporal consistency of a clip, both from the optical flow between adjacent frames.

Motion score as SVD and the paper's later version have it: frames resized to a protocol's size (800 x 450 there), mean
flow magnitude a pair, summed over the pairs. Published scores use RAFT; another flow is another scale.

Temporal consistency is the warping error (Lai et al. 2018): each frame against the next one, warped back by the flow.
What moves smoothly costs nothing; flicker, noise and shapes that change do.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.evaluation.decibels import decibels
from pipeline.evaluation.flow.dis import warp_back

Flow = Callable[[np.ndarray], np.ndarray]  # uint8 (F, H, W, 3) -> pixels (F - 1, H, W, 2)
OCCLUDED = 0.05  # share of a pair's pixels, those of the largest error, taken for uncovered background


@dataclass(frozen=True)
class Motion:
    """Motion of one clip."""

    score: float  # pixels at the protocol's size, summed over the pairs
    pixels_per_frame: float  # pixels at the clip's own size, mean over the pairs
    mean_vector: tuple[float, float]  # (x, y) pixels a frame at the clip's own size, mean over pixels and pairs
    consistency: float  # dB


def measure_motion(frames: np.ndarray, height: int, width: int, flow: Flow) -> Motion:
    """Motion of uint8 ``frames`` (F, H, W, 3), F >= 2, with flow computed at ``height`` x ``width`` pixels."""
    resized, flows = _flows(frames, height, width, flow)
    native = flows * _native(frames, height, width)
    return Motion(
        score=float(np.linalg.norm(flows, axis=-1).mean(axis=(1, 2), dtype=np.float64).sum()),
        pixels_per_frame=mean_speed(native),
        mean_vector=tuple(native.mean(axis=(0, 1, 2), dtype=np.float64).tolist()),
        consistency=_consistency(resized, flows),
    )


def native_flow(frames: np.ndarray, height: int, width: int, flow: Flow) -> np.ndarray:
    """Flow (F - 1, height, width, 2) in pixels of the clip's own size, computed at ``height`` x ``width``."""
    return _flows(frames, height, width, flow)[1] * _native(frames, height, width)


def mean_speed(flow: np.ndarray) -> float:
    """Mean magnitude of (…, 2), pixels a frame."""
    return float(np.linalg.norm(flow, axis=-1).mean(dtype=np.float64))


def _flows(frames: np.ndarray, height: int, width: int, flow: Flow) -> tuple[np.ndarray, np.ndarray]:
    resized = np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR) for frame in frames])
    return resized, flow(resized)


def _native(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.array([frames.shape[2] / width, frames.shape[1] / height], dtype=np.float32)


def _consistency(frames: np.ndarray, flows: np.ndarray) -> float:
    """PSNR of the warped next frames, without pixels that leave the picture and without the most occluded."""
    height, width = flows.shape[1:3]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    errors = []
    for first, second, flow in zip(frames[:-1], frames[1:], flows, strict=True):
        error = np.square(warp_back(second, flow) - first).mean(-1) / 255**2
        inside = (x + flow[..., 0] >= 0) & (x + flow[..., 0] < width) & (y + flow[..., 1] >= 0)
        kept = np.sort(error[inside & (y + flow[..., 1] < height)])
        errors.append(kept[: max(1, round(len(kept) * (1 - OCCLUDED)))].mean() if len(kept) else 1.0)
    return decibels(np.mean(errors))
