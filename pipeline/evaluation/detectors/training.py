"""Training of the demo detector on real clips, with the corruptions that generated clips show.

Targets: the clip's class, and its mean optical flow (``pipeline.evaluation.motion``), so that any labelled clips will
do and no generator's ground truth is asked for. Some clips are frozen to their first frame with motion zero, so that
stillness is learnt under noise and flicker too.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from pipeline.errors import PipelineError
from pipeline.evaluation.detectors.conv3d import Conv3dNet, DemoConv3d
from pipeline.evaluation.detectors.pca import coarsen
from pipeline.evaluation.flow.dis import DisFlow
from pipeline.evaluation.motion import measure_motion
from pipeline.evaluation.video import to_video
from pipeline.seeding import numpy_generator, seed_for

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSettings:
    """Size of the network and length of its training."""

    seed: int
    steps: int
    batch_size: int
    learning_rate: float
    width: int
    features: int


def train_conv3d(
    read_frames: Callable[[list[int]], np.ndarray],
    labels: Sequence[str],
    motion: np.ndarray,
    settings: TrainingSettings,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> DemoConv3d:
    """Train on clips that ``read_frames(indices)`` gives as uint8 (n, F, H, W, 3).

    ``labels``: a class name a clip; ``motion`` (n, 3): mean flow in x, in y, and magnitude, pixels a frame.
    Deterministic in ``settings`` and the clips. Raises PipelineError for an empty set or a loss that is not finite.
    """
    if not labels:
        raise PipelineError("the detectors have no clips to learn from; see the rejects of the clip set ucf101_train")
    classes = sorted(set(labels))
    wanted = torch.tensor([classes.index(label) for label in labels])
    scale = np.maximum(np.sqrt(np.square(motion).mean(axis=0)), 1e-3)
    targets = torch.from_numpy((motion / scale).astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(settings.seed, "detector weights"))
        net = Conv3dNet(settings.width, settings.features, len(classes))
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=settings.learning_rate, total_steps=max(settings.steps, 2), pct_start=0.1
    )
    for step in tqdm(range(settings.steps), desc="detector", disable=None):
        rng = numpy_generator(settings.seed, "detector step", step)
        indices = np.sort(rng.choice(len(labels), size=min(settings.batch_size, len(labels)), replace=False)).tolist()
        video, batch_motion = corrupt(to_video(read_frames(indices)), targets[indices], rng)
        features = net(video)
        losses = {
            "class": functional.cross_entropy(net.classes(features), wanted[indices]),
            "motion": functional.smooth_l1_loss(net.motion(features), batch_motion),
        }
        loss = losses["class"] + 4.0 * losses["motion"]
        if not torch.isfinite(loss):
            raise PipelineError(f"the detector's loss is not finite at step {step}; lower detectors.learning_rate")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        on_step(step, {f"detector_loss_{name}": value.item() for name, value in losses.items()})
    with torch.no_grad():
        net.motion.weight.mul_(torch.from_numpy(scale).float()[:, None])  # back to pixels a frame
        net.motion.bias.mul_(torch.from_numpy(scale).float())
    height, width = read_frames([0]).shape[2:4]
    config = {
        "width": settings.width,
        "features": settings.features,
        "classes": classes,
        "height": height,
        "frame_width": width,
    }
    return DemoConv3d(net, config)


def motion_targets(read_frames: Callable[[list[int]], np.ndarray], count: int) -> np.ndarray:
    """Mean flow in x, in y, and its mean magnitude (count, 3), pixels a frame, measured at twice the clips' size."""
    rows, flow = [], DisFlow()
    for frames in _batches(read_frames, count):
        for clip in frames:
            found = measure_motion(clip, 2 * clip.shape[1], 2 * clip.shape[2], flow)
            rows.append([*found.mean_vector, found.pixels_per_frame])
    return np.array(rows)


def coarse_clips(read_frames: Callable[[list[int]], np.ndarray], count: int, most: int = 2048) -> Tensor:
    """Coarse versions (n, d) of the first ``most`` clips, for the principal components."""
    return torch.cat([coarsen(to_video(frames)) for frames in _batches(read_frames, min(count, most))])


def _batches(read_frames: Callable[[list[int]], np.ndarray], count: int, size: int = 16):
    for start in range(0, count, size):
        yield read_frames(list(range(start, min(start + size, count))))


def corrupt(video: Tensor, motion: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Clips (B, C, F, H, W) with noise, blur, brightness and flicker; one in eight frozen, its motion set to zero."""
    count, _, frames = video.shape[:3]

    def uniform(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, 1, 1, 1, 1)).astype(np.float32))

    def normal(shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))

    frozen = uniform(0.0, 1.0) < 0.125
    video = torch.where(frozen, video[:, :, :1].expand_as(video), video)
    motion = torch.where(frozen.view(count, 1), torch.zeros_like(motion), motion)
    blurred = functional.avg_pool3d(
        functional.pad(video, (1, 1, 1, 1, 0, 0), mode="replicate"), kernel_size=(1, 3, 3), stride=1
    )
    video = torch.lerp(video, blurred, uniform(-0.5, 1.0).clamp(min=0.0))
    video = video * uniform(0.85, 1.15) + uniform(-0.15, 0.15)
    video = video + uniform(-0.03, 0.06).clamp(min=0.0) * normal((count, 1, frames, 1, 1))
    video = video + uniform(-0.05, 0.15).clamp(min=0.0) * normal(tuple(video.shape))
    return video.clamp(-1.0, 1.0), motion
