"""Optical flow without trained weights: dense inverse search (Kroeger et al. 2016, OpenCV's DIS)."""

from itertools import pairwise

import cv2
import numpy as np

STILL = 0.5  # a flow counts where it at least halves what standing still leaves unexplained
SMALLEST_AROUND = 2.0  # pixels (sigma) that this is judged over: with fewer, a flow explains noise by chance


class DisFlow:
    """Flow that neither flicker nor noise moves: gain and offset of each pair are matched, and a flow that explains
    little is set to zero."""

    name = "OpenCV DIS (medium), gain and offset of each pair matched, flow kept where it halves the residual"
    hash = "no weights"

    def __init__(self):
        cv2.setNumThreads(1)  # the same flow on every machine
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """uint8 RGB (F, H, W, 3) to pixels (F - 1, H, W, 2), from each frame to the next, (x, y)."""
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        return np.stack([self._pair(first, second) for first, second in pairwise(grey)])

    def _pair(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        second = _match_brightness(second, first)
        flow = self._dis.calc(first, second, None)
        around = max(SMALLEST_AROUND, first.shape[0] / 112)
        moved = cv2.GaussianBlur((warp_back(second, flow) - first.astype(np.float32)) ** 2, (0, 0), around)
        still = cv2.GaussianBlur((second.astype(np.float32) - first) ** 2, (0, 0), around)
        return flow * (moved < STILL * still)[..., None]


def warp_back(second: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """What ``second`` (H, W) or (H, W, 3) shows where ``flow`` (H, W, 2) leads, float32."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(
        second.astype(np.float32),
        x + flow[..., 0],
        y + flow[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _match_brightness(frame: np.ndarray, target: np.ndarray) -> np.ndarray:
    # Flicker of models changes a frame's gain and offset; without this the flow explains it as motion.
    gain = target.std(dtype=np.float64) / max(frame.std(dtype=np.float64), 1e-3)
    gain = np.clip(gain, 0.5, 2.0)  # beyond, a nearly flat frame's rounding noise would be blown up to motion
    matched = (frame - frame.mean(dtype=np.float64)) * gain + target.mean(dtype=np.float64)
    return np.clip(np.round(matched), 0, 255).astype(np.uint8)
