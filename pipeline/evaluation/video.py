"""Between the pixels on disk and the tensors that networks read."""

import numpy as np
import torch
from torch import Tensor


def to_video(frames: np.ndarray) -> Tensor:
    """uint8 (n, F, H, W, 3) to float32 (n, 3, F, H, W) in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0
