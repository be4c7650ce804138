"""RAFT from a published weights file, as the flow of the motion score."""

import re

import numpy as np
import torch

from pipeline.conversion.weight_file import find, read_weights
from pipeline.evaluation.detectors.published_weights import fill
from pipeline.evaluation.flow.raft import Raft
from pipeline.evaluation.video import to_video

# The authors' names (raft-things.pth and its like) -> torchvision's; norm3 is downsample.1 a second time.
AUTHORS = (
    (r"^module\.", ""),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(feature|context)_encoder\.conv1\.", r"\1_encoder.convnormrelu.0."),
    (r"^(feature|context)_encoder\.norm1\.", r"\1_encoder.convnormrelu.1."),
    (r"^(feature|context)_encoder\.conv2\.", r"\1_encoder.conv."),
    (r"(layer\d\.\d)\.conv([12])\.", r"\1.convnormrelu\2.0."),
    (r"(layer\d\.\d)\.norm([12])\.", r"\1.convnormrelu\2.1."),
    (r"^update_block\.encoder\.convc([12])\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf([12])\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.encoder\.conv\.", r"update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])([12])\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", r"mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", r"mask_predictor.conv."),
)


class RaftFlow:
    """``weights``: a released file's group of params.yaml (location, file, revision, sha256)."""

    def __init__(self, weights, updates: int, device: str):
        found = find(weights.location, weights.file, weights.revision, weights.sha256)
        self._net = fill(Raft(), torchvision_names(read_weights(found.path)), found.path).to(device)
        self._updates, self._device = updates, device
        self.name, self.hash = f"RAFT (large), {updates} updates", found.sha256

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """uint8 RGB (F, H, W, 3) to pixels (F - 1, H, W, 2), from each frame to the next; pair by pair, for memory."""
        video = to_video(frames[None])[0].transpose(0, 1).to(self._device)
        flows = [self._net(video[i : i + 1], video[i + 1 : i + 2], self._updates) for i in range(len(video) - 1)]
        return torch.cat(flows).permute(0, 2, 3, 1).cpu().numpy()


def torchvision_names(state: dict) -> dict:
    """A state dict with torchvision's names, from them or from the authors'."""
    renamed = {}
    for name, value in state.items():
        if ".norm3." in name:
            continue
        for pattern, replacement in AUTHORS:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed
