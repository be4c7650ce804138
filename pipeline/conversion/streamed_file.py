"""safetensors files written tensor by tensor: the library's own writer holds all of them in memory at once.

Format: github.com/huggingface/safetensors (eight bytes of header length, JSON header, the tensors' bytes).
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

DTYPE, NAME = torch.float32, "F32"


def write_float32(path: Path, shapes: dict[str, tuple[int, ...]], tensor: Callable[[str], Tensor]) -> None:
    """Write ``tensor(name)`` for every name of ``shapes`` as float32; one tensor is in memory at a time."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in _order(shapes):
        size = 4 * torch.Size(shapes[name]).numel()
        header[name] = {"dtype": NAME, "shape": list(shapes[name]), "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in _order(shapes):
            value = tensor(name)
            if tuple(value.shape) != tuple(shapes[name]):
                raise ValueError(f"{name} is {tuple(value.shape)}, announced as {tuple(shapes[name])}")
            file.write(value.detach().to("cpu", DTYPE).contiguous().numpy().tobytes())
        file.flush()
        os.fsync(file.fileno())


def _order(shapes: Iterable[str]) -> list[str]:
    return sorted(shapes)
