"""C3D finetuned on UCF101 as TGANv2 uses it for the inception score (pfnet-research/tgan2; Tran et al. 1412.0767).

Clips in [-1, 1] become BGR times 128, are resized to 112 x 112 with corners aligned, and 128 minus a mean volume is
added. The mean volume is stored wider, (3, 16, 128, 171) or 128 both ways, BGR: [8:120] of both directions is taken, as
in the IS of TGANv2; one of 112 x 112 is taken whole. ``mean_column=30`` cuts the middle of a wide volume instead. The
cut volume is among the weights and so in their hash.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from pipeline.conversion.weight_file import read_weights
from pipeline.errors import PipelineError
from pipeline.evaluation.detectors.interface import Detector, Identity
from pipeline.evaluation.detectors.published_weights import fill, read_arrays
from pipeline.evaluation.detectors.resize import resize_frames
from pipeline.evaluation.detectors.weights import weights_hash

WEIGHTS = "model.safetensors"
CLASSES, FRAMES, SIZE = 101, 16, 112
FIRST_COLUMN = {112: 0, 128: 8, 171: 8}  # by the width of the stored mean
FIRST_ROW = {112: 0, 128: 8}
STAGES = (  # convolutions with their channels, each stage closed by a pool
    {"conv1a": 64},
    {"conv2a": 128},
    {"conv3a": 256, "conv3b": 256},
    {"conv4a": 512, "conv4b": 512},
    {"conv5a": 512, "conv5b": 512},
)
HIDDEN, GRID = 4096, 4  # 112 halved five times and rounded up, because Chainer's pools cover the edge


class C3dNet(nn.Module):
    """(B, 3, 16, H, W) in [-1, 1], RGB, to logits (B, 101); every width is divided by ``width``, for tests."""

    def __init__(self, width: int = 1, classes: int = CLASSES):
        super().__init__()
        channels = 3
        for stage in STAGES:
            for name, wanted in stage.items():
                self.add_module(name, nn.Conv3d(channels, wanted // width, kernel_size=3, padding=1))
                channels = wanted // width
        # Both frameworks flatten in the order channel, time, row, column; time is down to one.
        self.fc6 = nn.Linear(channels * GRID * GRID, HIDDEN // width)
        self.fc7 = nn.Linear(HIDDEN // width, HIDDEN // width)
        self.fc8 = nn.Linear(HIDDEN // width, classes)
        self.register_buffer("mean", torch.zeros(3, FRAMES, SIZE, SIZE))

    def forward(self, video: Tensor) -> Tensor:
        return self.fc8(self.embed(video))

    def embed(self, video: Tensor) -> Tensor:
        """The last hidden layer, fc7 after its ReLU: (B, 4096 / width)."""
        hidden = resize_frames(128.0 * video.flip(1), (SIZE, SIZE), align_corners=True) + (128.0 - self.mean)
        for index, stage in enumerate(STAGES):
            for name in stage:
                hidden = functional.relu(getattr(self, name)(hidden))
            hidden = functional.max_pool3d(hidden, (1, 2, 2) if index == 0 else 2, ceil_mode=True)
        return functional.relu(self.fc7(functional.relu(self.fc6(hidden.flatten(1)))))


class C3D(Detector):
    """``C3dNet`` as a detector: features are fc7, logits the 101 classes of UCF101."""

    def __init__(self, net: C3dNet):
        self._net = net.eval().requires_grad_(False)
        self.identity = Identity(
            name="c3d-ucf101",
            hash=weights_hash(net.state_dict()),
            protocol="16 frames, bilinear to 112x112 with corners aligned, no antialias, BGR times 128 plus 128 minus "
            "the mean volume",
        )

    def features(self, video: Tensor) -> Tensor:
        return self._net.embed(_checked(video))

    def logits(self, video: Tensor) -> Tensor:
        return self._net(_checked(video))

    def to(self, device: str) -> "C3D":
        self._net.to(device)
        return self

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self._net.state_dict(), folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> "C3D":
        """Raises PipelineError where the file is missing, damaged or does not fit."""
        return load_c3d(folder / WEIGHTS)


def _checked(video: Tensor) -> Tensor:
    if video.shape[2] != FRAMES:
        raise PipelineError(f"C3D reads clips of {FRAMES} frames (its mean volume has as many), not {video.shape[2]}")
    return video


def load_c3d(weights: Path, mean: Path | None = None, mean_column: int | None = None) -> C3D:
    """C3D from Chainer's ``.npz`` (``conv1a/W`` ...) with the mean's ``.npy`` or ``.npz``, or from ``.safetensors``.

    ``.safetensors`` have ``C3dNet``'s names and the mean among them, unless ``mean`` is given; nothing is unpickled.
    ``mean_column``: the first column taken of the mean; None as the module says.
    Raises PipelineError for a missing, damaged or unfitting file.
    """
    weights = Path(weights)
    if weights.suffix == ".npz":
        state = _from_chainer(read_arrays(weights))
    elif weights.suffix == ".safetensors":
        state = read_weights(weights)
    else:
        raise PipelineError(f"{weights} is neither .npz (Chainer) nor .safetensors; convert C3D's weights to one")
    if mean is not None:
        state["mean"] = read_mean(mean, mean_column)
    if "mean" not in state:
        raise PipelineError(f"{weights} holds no mean volume; give C3D's mean (.npy or .npz) beside it")
    return C3D(fill(C3dNet(_divisor(state)), state, weights))


def read_mean(path: Path, column: int | None = None) -> Tensor:
    """The mean volume cut to (3, 16, 112, 112), BGR, float32; an ``.npz`` holds it under ``mean``, or it alone."""
    arrays = read_arrays(path)
    volume = arrays.get("mean", next(iter(arrays.values())) if len(arrays) == 1 else None)
    if volume is None:
        raise PipelineError(f"{path} holds no array 'mean' but {', '.join(sorted(arrays)) or 'nothing'}")
    shape = volume.shape
    while volume.ndim > 4 and volume.shape[0] == 1:
        volume = volume[0]
    rows, columns = (*volume.shape[2:], 0, 0)[:2]
    if volume.shape[:2] != (3, FRAMES) or volume.ndim != 4 or rows not in FIRST_ROW or columns not in FIRST_COLUMN:
        raise PipelineError(
            f"{path}: a mean volume is (3, 16, 128, 171), (3, 16, 128, 128) or 112 both ways, not {shape}"
        )
    top, left = FIRST_ROW[rows], FIRST_COLUMN[columns] if column is None else column
    if not 0 <= left <= columns - SIZE:
        raise PipelineError(f"{path}: columns {left}:{left + SIZE} are not all in a mean volume {columns} wide")
    return torch.from_numpy(np.array(volume[:, :, top : top + SIZE, left : left + SIZE], dtype=np.float32))


def _from_chainer(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Names ``layer/W`` and ``layer/b`` to PyTorch's; the shapes are the same in both."""
    suffixes = {"W": "weight", "b": "bias"}
    state = {}
    for name, array in arrays.items():
        layer, _, kind = name.rpartition("/")
        state[f"{layer}.{suffixes[kind]}" if kind in suffixes else name] = torch.from_numpy(np.float32(array))
    return state


def _divisor(state: dict[str, Tensor]) -> int:
    """The ``width`` that the first convolution shows; 1 where it shows none, so that ``fill`` names what is wrong."""
    first = state.get("conv1a.weight")
    channels = len(first) if first is not None and first.ndim else 64
    return 64 // channels if channels and 64 % channels == 0 else 1
