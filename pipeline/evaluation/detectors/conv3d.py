"""The demo's own detector: a small 3D convolutional network with two heads, kinds of clips and their motion.

It stands in for I3D (features) and C3D (class logits) where no published weights are at hand. The motion head makes
the features notice motion: a Frechet distance on kinds alone would hardly tell a still picture from a moving one.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import PipelineError
from pipeline.evaluation.detectors.interface import Detector, Identity
from pipeline.evaluation.detectors.weights import weights_hash

WEIGHTS, CONFIG = "model.safetensors", "config.json"
MOTION_TARGETS = 3  # mean flow in x, in y, and its mean magnitude


class Conv3dNet(nn.Module):
    """(B, 3, F, H, W) in [-1, 1] to features (B, features); heads for ``classes`` and for motion on top of them."""

    def __init__(self, width: int, features: int, classes: int):
        super().__init__()
        self.body = nn.Sequential(
            # Frame differences as further channels: motion is then a matter of products of neighbours, not of depth.
            _block(6, width, stride=(1, 2, 2)),
            _block(width, 2 * width, stride=(2, 2, 2)),
            _block(2 * width, 4 * width, stride=(2, 2, 2)),
        )
        self.embed = nn.Linear(8 * width, features)
        self.classes = nn.Linear(features, classes)
        self.motion = nn.Linear(features, MOTION_TARGETS)

    def forward(self, video: Tensor) -> Tensor:
        difference = torch.diff(video, dim=2, append=video[:, :, -1:])
        hidden = self.body(torch.cat([video, 4.0 * difference], dim=1))
        pooled = torch.cat([hidden.mean(dim=(2, 3, 4)), hidden.amax(dim=(2, 3, 4))], dim=1)
        return functional.silu(self.embed(pooled))


def _block(channels_in: int, channels_out: int, stride: tuple[int, int, int]) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1),
        nn.GroupNorm(4, channels_out),
        nn.SiLU(),
    )


class DemoConv3d(Detector):
    """``Conv3dNet`` with the frame size that it was trained at."""

    def __init__(self, net: Conv3dNet, config: dict):
        self._net = net.eval().requires_grad_(False)
        self._config = config
        height, width = config["height"], config["frame_width"]
        self.identity = Identity(
            name="demo-conv3d",
            hash=weights_hash(net.state_dict()),
            protocol=f"bilinear to {width}x{height}, range [-1, 1], every frame, trained on this project's demo clips",
        )

    def features(self, video: Tensor) -> Tensor:
        return self._net(self._resize(video))

    def logits(self, video: Tensor) -> Tensor:
        return self._net.classes(self.features(video))

    def motion(self, video: Tensor) -> Tensor:
        """Estimated motion (B, 3): x, y and magnitude, in pixels a frame at the training size."""
        return self._net.motion(self.features(video))

    def to(self, device: str) -> "DemoConv3d":
        self._net.to(device)
        return self

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self._net.state_dict(), folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(self._config, indent=1, sort_keys=True) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "DemoConv3d":
        """Raises PipelineError where a file is missing or the weights do not fit the config."""
        try:
            config = json.loads((folder / CONFIG).read_text())
            net = Conv3dNet(config["width"], config["features"], len(config["classes"]))
            net.load_state_dict(load_file(folder / WEIGHTS))
        except (FileNotFoundError, KeyError, RuntimeError, ValueError) as error:
            raise PipelineError(f"{folder} holds no demo-conv3d detector ({error}); run the stage detectors") from None
        return cls(net, config)

    def _resize(self, video: Tensor) -> Tensor:
        size = (self._config["height"], self._config["frame_width"])
        if video.shape[-2:] == size:
            return video
        batch, channels, frames = video.shape[:3]
        flat = video.transpose(1, 2).flatten(0, 1)
        flat = functional.interpolate(flat, size=size, mode="bilinear", align_corners=False, antialias=True)
        return flat.view(batch, frames, channels, *size).transpose(1, 2)
