"""How the two public FVD codes bring clips to I3D's 224 x 224; they differ in what becomes of the aspect ratio.

Sources: SongweiGe/TATS, and StyleGAN-V as kept in JunyaoHu/common_metrics_on_video_quality.
"""

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

SIZE = 224


def tats(video: Tensor, size: int = SIZE) -> Tensor:
    """Each frame squashed: (B, C, F, H, W) to (B, C, F, size, size), bilinear without antialias, range kept."""
    return resize_frames(video, (size, size))


def styleganv(video: Tensor, size: int = SIZE) -> Tensor:
    """Short side to ``size``, the other in proportion, centre crop: (B, C, F, H, W) to (B, C, F, size, size)."""
    height, width = video.shape[-2:]
    scale = size / min(height, width)
    # In floats, as the public code does: rounding up may add a column that exact fractions would not.
    target = (size, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), size)
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    return resize_frames(video, target)[..., top : top + size, left : left + size]


def resize_frames(video: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Bilinear resize of every frame without antialias, (B, C, F, H, W) to (B, C, F, *size)."""
    batch, channels, frames = video.shape[:3]
    flat = video.flatten(1, 2)  # frames beside channels: interpolation treats each plane by itself
    flat = functional.interpolate(flat, size=size, mode="bilinear", align_corners=align_corners)
    return flat.view(batch, channels, frames, *size)


PROTOCOLS: dict[str, Callable[[Tensor], Tensor]] = {"tats": tats, "styleganv": styleganv}
DESCRIPTIONS = {
    "tats": "tats: each frame squashed to 224x224, bilinear, no antialias, range [-1, 1]",
    "styleganv": "styleganv: short side to 224, bilinear, no antialias, centre crop to 224x224, range [-1, 1]",
}
