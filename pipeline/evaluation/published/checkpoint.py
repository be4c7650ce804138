"""Published weights from disk: tensors only, no code is ever unpickled, and every fault is named with its file."""

import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import PipelineError

SHOWN = 3  # names of a kind in one message


def read_state(path: Path) -> dict[str, Tensor]:
    """State dict of a ``.safetensors`` file or of a PyTorch checkpoint (any other suffix).

    Raises PipelineError for a missing or damaged file, one that asks for code, and one that holds something else.
    """
    path = _existing(path)
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch words damage and refusal alike; only a refusal speaks of the global that was asked for.
        if "GLOBAL" in str(error) or "Unsupported" in str(error):
            raise _needs_code(path) from None
        raise _damaged(path, error) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        if "TorchScript" in str(error):
            raise _needs_code(path) from None
        raise _damaged(path, error) from None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise PipelineError(f"{path} is no state dict (names to tensors); save the network's state_dict() alone")
    return state


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file, or the one of an ``.npy`` file under the name ``""``; errors as ``read_state``."""
    path = _existing(path)
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
            raise (_needs_code(path) if "Object arrays" in str(error) else _damaged(path, "no numpy file")) from None
        raise _damaged(path, error) from None
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
    found = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in faults if names)
    if found:
        raise PipelineError(f"{path} does not fit {type(net).__name__} ({found}); give the published checkpoint")
    spoilt = sorted(name for name, value in state.items() if not torch.isfinite(value).all())
    if spoilt:
        raise PipelineError(f"{path} holds values that are not finite, in {_some(spoilt)}; fetch the file again")
    net.load_state_dict({name: wanted[name] for name in counters} | state)
    return net.eval().requires_grad_(False)


def _existing(path: Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise PipelineError(f"{path} does not exist or is no file; it should hold a detector's published weights")
    return path


def _damaged(path: Path, error: Exception | str) -> PipelineError:
    lines = str(error).splitlines() or [type(error).__name__]
    return PipelineError(f"{path} is damaged, cut short or of another format ({lines[0]}); fetch the file again")


def _needs_code(path: Path) -> PipelineError:
    return PipelineError(
        f"{path} asks for code to be unpickled, which is refused; "
        "give a file of plain tensors (a state dict, .safetensors, or arrays without objects)"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
