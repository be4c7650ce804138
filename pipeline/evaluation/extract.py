"""Clips to features, batch by batch: memory grows with the features, never with the frames."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from tqdm import tqdm

from pipeline.evaluation import motion
from pipeline.evaluation.detectors.interface import Detector
from pipeline.evaluation.feature_store import FeatureSet
from pipeline.evaluation.video import to_video


@dataclass(frozen=True)
class MotionSize:
    """Pixels that the optical flow is computed at."""

    height: int
    width: int


def extract_features(
    read_frames: Callable[[list[int]], np.ndarray],
    ids: Sequence[str],
    seeds: Sequence[int],
    detectors: dict[str, Detector],
    motion_size: MotionSize,
    details: dict,
    batch_size: int = 16,
    device: str = "cpu",
) -> FeatureSet:
    """Features of the clips ``read_frames(positions)``, uint8 (n, F, H, W, 3), for positions 0 .. len(ids) - 1.

    ``detectors`` by role ("fvd", "is", "pca"). The result does not depend on ``batch_size``.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("fvd", "is", "pca", "motion_score", "motion_px")}
    for start in tqdm(range(0, len(ids), batch_size), desc="features", disable=None):
        frames = read_frames(list(range(start, min(start + batch_size, len(ids)))))
        with torch.inference_mode():
            video = to_video(frames).to(device)
            parts["fvd"].append(detectors["fvd"].features(video).float().cpu().numpy())
            parts["is"].append(detectors["is"].logits(video).float().cpu().numpy())
            parts["pca"].append(detectors["pca"].features(video).float().cpu().numpy())
        measured = [motion.measure_motion(clip, motion_size.height, motion_size.width) for clip in frames]
        parts["motion_score"].append(np.array([item.score for item in measured]))
        parts["motion_px"].append(np.array([item.pixels_per_frame for item in measured]))
    return FeatureSet(
        ids=list(ids),
        seeds=list(seeds),
        arrays={name: np.concatenate(arrays) for name, arrays in parts.items()},
        provenance=[
            *({"role": role, **asdict(detector.identity)} for role, detector in detectors.items()),
            {
                "role": "motion",
                "name": "optical flow",
                "hash": "no weights",
                "protocol": f"{motion.PROTOCOL}, summed over the pairs, at {motion_size.width}x{motion_size.height}",
            },
        ],
        details=details,
    )


def repeat_first_frame(frames: np.ndarray) -> np.ndarray:
    """The condition as a video: every frame of (n, F, H, W, 3) replaced by its clip's first."""
    return np.repeat(frames[:, :1], frames.shape[1], axis=1)
