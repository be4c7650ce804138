"""What the frozen encoders made of a clip set: parts of safetensors, read by memory map, row by row.

A row a clip: VAE moments of every frame, image tokens and embedding of every frame or of the first, text tokens, fps.
index.json names the clips and the encoders that made them; null.safetensors holds the conditions of nothing (empty
text, grey picture). A mirrored clip is a row of its own, with ``MIRRORED`` behind its id.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.errors import PipelineError

MIRRORED = "|mirrored"
NULL_FILE = "null.safetensors"
HEADER = ("vae_hash", "encoders_hash", "scaling_factor")

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
        self._handles: dict[int, object] = {}

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def header(self) -> dict:
        """Which encoders made the latents, and the VAE's scale."""
        return {name: getattr(self, name) for name in HEADER}

    def null(self) -> dict[str, Tensor]:
        """``text`` (L, D), ``image_tokens`` (T, D), ``image_embedding`` (1, D) of nothing."""
        return load_file(self.folder / NULL_FILE)

    def row(self, index: int, fields=tuple(FIELDS)) -> dict[str, Tensor]:
        """Fields of one clip, float32."""
        shard = next(i for i in range(len(self._starts) - 1) if index < self._starts[i + 1])
        if shard not in self._handles:
            path = self.folder / part_file(shard)
            try:
                self._handles[shard] = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise PipelineError(f"{path} is missing or damaged ({error}); run the stage latents again") from None
        handle, position = self._handles[shard], index - self._starts[shard]
        return {name: handle.get_slice(name)[position].float() for name in fields}

    def batch(self, indices: list[int], fields=tuple(FIELDS)) -> dict[str, Tensor]:
        """Fields of several clips, stacked, float32."""
        rows = [self.row(index, fields) for index in indices]
        return {name: torch.stack([row[name] for row in rows]) for name in fields}
