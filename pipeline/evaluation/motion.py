"""Motion without trained weights: dense inverse search optical flow (Kroeger et al. 2016, OpenCV's DIS).

The motion score follows SVD's: frames resized to a protocol's size, mean flow magnitude a pair of adjacent frames,
summed over the pairs. The published scores use RAFT at 800 x 450 and are on another scale.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

PROTOCOL = "OpenCV DIS (medium), grey, gain and offset of each pair matched, mean magnitude a pair"


@dataclass(frozen=True)
class Motion:
    """Motion of one clip."""

    score: float  # pixels at the protocol's size, summed over the pairs
    pixels_per_frame: float  # pixels at the clip's own size, mean over the pairs
    mean_vector: tuple[float, float]  # (x, y) pixels a frame at the clip's own size, mean over pixels and pairs


def measure_motion(frames: np.ndarray, height: int, width: int) -> Motion:
    """Motion of uint8 ``frames`` (F, H, W, 3), F >= 2, with flow computed at ``height`` x ``width`` pixels."""
    import cv2

    cv2.setNumThreads(1)  # the same flow on every machine
    flow_of = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [
        cv2.cvtColor(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), cv2.COLOR_RGB2GRAY)
        for frame in frames
    ]
    flows = np.stack([flow_of.calc(a, _match_brightness(b, a), None) for a, b in pairwise(grey)])
    native = flows * np.array([frames.shape[2] / width, frames.shape[1] / height], dtype=np.float32)
    return Motion(
        score=float(np.linalg.norm(flows, axis=-1).mean(axis=(1, 2), dtype=np.float64).sum()),
        pixels_per_frame=float(np.linalg.norm(native, axis=-1).mean(dtype=np.float64)),
        mean_vector=tuple(native.mean(axis=(0, 1, 2), dtype=np.float64).tolist()),
    )


def _match_brightness(frame: np.ndarray, target: np.ndarray) -> np.ndarray:
    # Flicker of models changes a frame's gain and offset; without this the flow explains it as motion.
    gain = target.std(dtype=np.float64) / max(frame.std(dtype=np.float64), 1e-3)
    gain = np.clip(gain, 0.5, 2.0)  # beyond, a nearly flat frame's rounding noise would be blown up to motion
    matched = (frame - frame.mean(dtype=np.float64)) * gain + target.mean(dtype=np.float64)
    return np.clip(np.round(matched), 0, 255).astype(np.uint8)
