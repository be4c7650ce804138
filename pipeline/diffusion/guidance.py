"""Classifier-free guidance on a network's outputs; both branches run as one batch."""

import torch
from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, scale: float | Tensor) -> Tensor:
    """uncond + scale (cond - uncond); ``scale`` may be one value a frame, shaped to broadcast."""
    return unconditional + scale * (conditional - unconditional)


def rescale(guided: Tensor, conditional: Tensor, factor: float) -> Tensor:
    """Pull the spread of the guided output towards the conditional one (Lin et al. 2024, section 3.4)."""
    dims = tuple(range(1, guided.dim()))
    ratio = conditional.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
    return factor * guided * ratio + (1 - factor) * guided


def frame_ramp(first: float, last: float, frames: int) -> Tensor:
    """SVD's guidance scale, one value a frame, shaped (1, 1, F, 1, 1)."""
    return torch.linspace(first, last, frames).reshape(1, 1, -1, 1, 1)
