"""A detector's published weights: arrays from disk without unpickling, and a network filled with exactly them."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.conversion.rules import some
from pipeline.conversion.weight_file import damaged, needs_code
from pipeline.errors import PipelineError


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file, or the one of an ``.npy`` file under the name ``""``; errors as ``read_weights``."""
    if not path.is_file():
        raise PipelineError(f"{path} does not exist or is no file; it should hold published weights")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays = {"": loaded}
        else:
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            # numpy takes whatever does not begin like a numpy file for a pickle; only an object array truly is one.
            raise (needs_code(path) if "Object arrays" in str(error) else damaged(path, "no numpy file")) from None
        raise damaged(path, error) from None
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise PipelineError(f"{path}: {name or 'its array'} holds no numbers but {array.dtype}")
    return arrays


def fill(net: nn.Module, state: dict[str, Tensor], path: Path) -> nn.Module:
    """``net`` with exactly the weights of ``state``, in eval mode and frozen; ``path`` is for the message.

    Raises PipelineError where names or shapes differ, or a value is not finite. Batch norm's counters may be missing:
    checkpoints of before PyTorch 0.4 have none, and inference does not read them.
    """
    wanted = net.state_dict()
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    faults = [
        ("missing", sorted(wanted.keys() - state.keys() - counters)),
        ("unknown", sorted(state.keys() - wanted.keys())),
        (
            "of another shape",
            [
                f"{name} {shapes[name]} for {tuple(value.shape)}"
                for name, value in wanted.items()
                if name in shapes and shapes[name] != tuple(value.shape)
            ],
        ),
    ]
    found = "; ".join(f"{len(names)} {what}: {some(names)}" for what, names in faults if names)
    if found:
        raise PipelineError(f"{path} does not fit {type(net).__name__} ({found}); give the published checkpoint")
    spoilt = sorted(name for name, value in state.items() if not torch.isfinite(value).all())
    if spoilt:
        raise PipelineError(f"{path} holds values that are not finite, in {some(spoilt)}; fetch the file again")
    net.load_state_dict({name: wanted[name] for name in counters} | state)
    return net.eval().requires_grad_(False)
