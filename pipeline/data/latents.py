"""What the frozen encoders made of a clip set: parts of safetensors, read row by row.

A row a clip: VAE moments of every frame, image tokens and embedding of every frame or of the first, text tokens, fps.
index.json names the clips and the encoders that made them; null.safetensors holds the conditions of nothing (empty
text, grey picture). A mirrored clip is a row of its own, with ``MIRRORED`` behind its id.
"""

import json
import math
import os
from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path
from threading import Lock

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.errors import PipelineError

MIRRORED = "|mirrored"
NULL_FILE = "null.safetensors"
HEADER = ("vae_hash", "encoders_hash", "scaling_factor")
OPEN_PARTS = 64  # files held open at once, of any number
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

# field -> what it is; every tensor's first axis is the clip
FIELDS = {
    "mean": "VAE posterior mean, unscaled, (C, F, h, w)",
    "logvar": "VAE posterior log variance, (C, F, h, w)",
    "image_tokens": "CLIP tokens of every frame, (F, T, D), or of the first, (1, T, D)",
    "image_embedding": "projected CLIP embedding of every frame, (F, 1, D), or of the first",
    "text": "text tokens of the caption, (L, D)",
    "fps": "frames per second of the clip, ()",
}


def part_file(number: int) -> str:
    """Name of a part of a latents folder."""
    return f"part-{number:05d}.safetensors"


def write_part(path: Path, ids: list[str], fields: dict[str, Tensor]) -> None:
    """Write the rows of one part; ``fields`` as in FIELDS with the rows in front. Raises PipelineError on a NaN."""
    for position, id in enumerate(ids):
        for name in FIELDS:
            if not torch.isfinite(fields[name][position]).all():
                raise PipelineError(f"{name} of clip {id} is not finite; look at the clip and the encoders")
    save_file({name: fields[name].contiguous() for name in FIELDS}, path)


def write_null(folder: Path, null: dict[str, Tensor]) -> None:
    """Write the conditions of nothing."""
    save_file({name: tensor.cpu().contiguous() for name, tensor in null.items()}, folder / NULL_FILE)


def write_index(folder: Path, ids: list[list[str]], header: dict) -> None:
    """Make a latents folder of a folder of parts. ``ids``: of each part; ``header``: the keys ``HEADER``."""
    index = {**header, "shards": [len(part) for part in ids], "ids": [id for part in ids for id in part]}
    (folder / "index.json").write_text(json.dumps(index))


class LatentSet:
    """Random access to the rows of a latents folder. Raises PipelineError where it is not one."""

    def __init__(self, folder: Path):
        try:
            index = json.loads((folder / "index.json").read_text())
        except FileNotFoundError:
            raise PipelineError(
                f"{folder} holds no index.json: it is not a latents folder; run the stage latents"
            ) from None
        except ValueError as error:
            raise PipelineError(f"{folder}/index.json is damaged ({error}); run the stage latents again") from None
        lacking = {"ids", "shards", *HEADER} - set(index)
        if lacking or sum(index["shards"]) != len(index["ids"]):
            raise PipelineError(
                f"{folder}/index.json does not describe its shards "
                f"(missing: {sorted(lacking) or 'none, counts differ'}); "
                f"run the stage latents again"
            )
        self.folder = folder
        self.ids: list[str] = index["ids"]
        self.vae_hash: str = index["vae_hash"]
        self.encoders_hash: str = index["encoders_hash"]
        self.scaling_factor: float = index["scaling_factor"]
        self._starts = [0]
        for rows in index["shards"]:
            self._starts.append(self._starts[-1] + rows)
        self._open: OrderedDict[int, _Part] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def header(self) -> dict:
        """Which encoders made the latents, and the VAE's scale."""
        return {name: getattr(self, name) for name in HEADER}

    def null(self) -> dict[str, Tensor]:
        """``text`` (L, D), ``image_tokens`` (T, D), ``image_embedding`` (1, D) of nothing."""
        return load_file(self.folder / NULL_FILE)

    def shape(self, field: str) -> tuple[int, ...]:
        """Of one clip's ``field``, as FIELDS has it."""
        return self._part(0).shape(field)

    def row(self, index: int, fields=tuple(FIELDS)) -> dict[str, Tensor]:
        """Fields of one clip, float32."""
        part, row = self._place(index)
        return {name: part.read(name, row) for name in fields}

    def batch(self, indices: list[int], fields=tuple(FIELDS)) -> dict[str, Tensor]:
        """Fields of several clips, stacked, float32."""
        rows = [self.row(index, fields) for index in indices]
        return {name: torch.stack([row[name] for row in rows]) for name in fields}

    def pictures(self, indices: list[int], field: str, frames: list[int]) -> Tensor:
        """Of clip ``indices[i]`` the frame ``frames[i]`` of ``field``, (B, ...), float32; only these are read."""
        found = []
        for index, frame in zip(indices, frames, strict=True):
            part, row = self._place(index)
            found.append(part.read(field, row, frame))
        return torch.stack(found)

    def _place(self, index: int) -> "tuple[_Part, int]":
        if not 0 <= index < len(self.ids):
            raise IndexError(f"clip {index} of {len(self.ids)}")
        number = bisect_right(self._starts, index) - 1
        return self._part(number), index - self._starts[number]

    def _part(self, number: int) -> "_Part":
        """Part ``number``, open. The last used stay open; one that falls out closes when no thread reads it."""
        with self._lock:
            if number in self._open:
                self._open.move_to_end(number)
                return self._open[number]
        part = _Part(
            self.folder / part_file(number), self._starts[number + 1] - self._starts[number]
        )  # fmt: skip
        with self._lock:
            self._open[number] = part
            while len(self._open) > OPEN_PARTS:
                self._open.popitem(last=False)
        return part


class _Part:
    """One part file of ``rows`` clips. Threads may share it: every read states its place.

    Not mapped into memory: reading a mapped file that is cut short or whose disk goes away kills the process.
    Raises PipelineError where the file is not whole.
    """

    def __init__(self, path: Path, rows: int):
        self._path = path
        try:
            self._file = path.open("rb", buffering=0)
            length = int.from_bytes(self._bytes(8, 0), "little")
            size = os.fstat(self._file.fileno()).st_size
            if not 0 < length <= size:
                raise ValueError("its header is cut short")
            header = json.loads(self._bytes(length, 8))
            self._entries = {
                name: (DTYPES[entry["dtype"]], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
                for name, entry in header.items()
                if name != "__metadata__"
            }
            ends = [8 + length + entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            if max(ends) != size or any(shape[:1] != (rows,) for _, shape, _ in self._entries.values()):
                raise ValueError("its size is not what header and index.json say")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> PipelineError:
        return PipelineError(f"{self._path} is missing or damaged ({error}); run the stage latents again")

    def _bytes(self, count: int, offset: int) -> bytearray:
        buffer = bytearray(count)
        view, done = memoryview(buffer), 0
        while done < count:
            read = os.preadv(self._file.fileno(), [view[done:]], offset + done)
            if read == 0:
                raise ValueError("it ends early")
            done += read
        return buffer

    def shape(self, field: str) -> tuple[int, ...]:
        return self._entries[field][1][1:]

    def read(self, field: str, row: int, frame: int | None = None) -> Tensor:
        """``field`` of one row, or of one ``frame`` (its first axis) of the row; float32."""
        dtype, (_, *shape), offset = self._entries[field]
        place = row
        if frame is not None:
            count, *shape = shape
            if not 0 <= frame < count:
                raise IndexError(f"{field}: frame {frame} of {count}")
            place = row * count + frame
        size = math.prod(shape) * dtype.itemsize
        try:
            found = self._bytes(size, offset + place * size)
        except (OSError, ValueError) as error:
            raise self._damaged(error) from None
        return torch.frombuffer(found, dtype=dtype).reshape(shape).float()
