"""Clips to features, batch by batch: memory grows with the features, never with the frames."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from tqdm import tqdm

from pipeline.evaluation import alignment
from pipeline.evaluation.detectors.interface import Detector
from pipeline.evaluation.feature_store import ARRAYS, FeatureSet
from pipeline.evaluation.motion import Flow, measure_motion
from pipeline.evaluation.video import to_video


@dataclass(frozen=True)
class MotionProtocol:
    """The optical flow, and the pixels that it is computed at."""

    height: int
    width: int
    flow: Flow


def extract_features(
    read_frames: Callable[[list[int]], np.ndarray],
    ids: Sequence[str],
    seeds: Sequence[int],
    detectors: dict[str, Detector],
    motion: MotionProtocol,
    details: dict,
    read_images: Callable[[list[int]], np.ndarray] | None = None,
    batch_size: int = 16,
    device: str = "cpu",
) -> FeatureSet:
    """Features of the clips ``read_frames(positions)``, uint8 (n, F, H, W, 3), for positions 0 .. len(ids) - 1.

    ``detectors`` by role ("fvd", "is", "pca"); ``read_images(positions)``: the condition images, uint8 (n, H, W, 3), or
    None where each clip's first frame is its own. The result does not depend on ``batch_size``.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ARRAYS}
    for start in tqdm(range(0, len(ids), batch_size), desc="features", disable=None):
        positions = list(range(start, min(start + batch_size, len(ids))))
        frames = read_frames(positions)
        images = read_images(positions) if read_images else frames[:, 0]
        with torch.inference_mode():
            video, image = to_video(frames).to(device), to_video(images[:, None])[:, :, 0].to(device)
            parts["fvd"].append(detectors["fvd"].features(video).float().cpu().numpy())
            parts["is"].append(detectors["is"].logits(video).float().cpu().numpy())
            parts["pca"].append(detectors["pca"].features(video).float().cpu().numpy())
            parts["image_alignment"].append(np.array(alignment.image_alignment(video, image)))
            parts["first_frame"].append(np.array(alignment.first_frame_fidelity(video, image)))
        measured = [measure_motion(clip, motion.height, motion.width, motion.flow) for clip in frames]
        parts["motion_score"].append(np.array([item.score for item in measured]))
        parts["motion_px"].append(np.array([item.pixels_per_frame for item in measured]))
        parts["temporal_consistency"].append(np.array([item.consistency for item in measured]))
    return FeatureSet(
        ids=list(ids),
        seeds=list(seeds),
        arrays={name: np.concatenate(arrays) for name, arrays in parts.items()},
        provenance=[
            *({"role": role, **asdict(detector.identity)} for role, detector in detectors.items()),
            {
                "role": "motion",
                "name": "optical flow",
                "hash": motion.flow.hash,
                "protocol": f"{motion.flow.name}, at {motion.width}x{motion.height}",
            },
        ],
        details=details,
    )


def repeat_first_frame(frames: np.ndarray) -> np.ndarray:
    """The condition as a video: every frame of (n, F, H, W, 3) replaced by its clip's first."""
    return np.repeat(frames[:, :1], frames.shape[1], axis=1)
