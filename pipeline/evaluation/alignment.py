"""How much of a video is its condition image, wherever things have moved to.

Image alignment is the bidirectional similarity (Simakov et al. 2008) of each frame and the condition image: every patch
of the frame should be found in the image (nothing new, discoloured or noisy), every patch of the image in the frame
(nothing lost). A patch may be found anywhere, so that motion costs nothing.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate, unfold

from pipeline.evaluation.decibels import decibels

PATCH, STRIDE, SHORT_SIDE = 5, 2, 32  # pixels, at a short side of 32


def image_alignment(video: Tensor, image: Tensor) -> list[float]:
    """dB of each clip; ``video`` (B, 3, F, H, W) and ``image`` (B, 3, H, W) in [-1, 1]."""
    return [decibels(_clip_error(clip, still).item()) for clip, still in zip(video, image, strict=True)]


def first_frame_fidelity(video: Tensor, image: Tensor) -> list[float]:
    """PSNR of the first frame against the image, dB, one a clip."""
    return [decibels(error) for error in ((video[:, :, 0] - image) / 2).square().flatten(1).mean(1).tolist()]


def _clip_error(clip: Tensor, image: Tensor) -> Tensor:
    """Mean over the frames of both directions' mean squared distance, pixels in [0, 1]."""
    of_frames, of_image = _patches(clip.transpose(0, 1)), _patches(image[None])
    distance = torch.cdist(of_frames, of_image.expand(len(of_frames), -1, -1)).square() / of_frames.shape[-1]
    coherence, completeness = distance.amin(2).mean(1), distance.amin(1).mean(1)
    return ((coherence + completeness) / 2).mean()


def _patches(frames: Tensor) -> Tensor:
    """(F, 3, H, W) in [-1, 1] to patches (F, N, 3 * PATCH^2) in [0, 1]."""
    scale = SHORT_SIDE / min(frames.shape[-2:])
    if scale != 1:
        size = [round(side * scale) for side in frames.shape[-2:]]
        frames = interpolate(frames, size, mode="bilinear", antialias=True)
    return unfold(frames / 2 + 0.5, PATCH, stride=STRIDE).transpose(1, 2)
