"""What the frozen encoders made of a clip set: shards of safetensors, read by memory map, row by row.

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

# field -> what it is; every tensor's first axis is the clip
FIELDS = {
    "mean": "VAE posterior mean, unscaled, (C, F, h, w)",
    "logvar": "VAE posterior log variance, (C, F, h, w)",
    "image_tokens": "CLIP tokens of every frame, (F, T, D), or of the first, (1, T, D)",
    "image_embedding": "projected CLIP embedding of every frame, (F, 1, D), or of the first",
    "text": "text tokens of the caption, (L, D)",
    "fps": "frames per second of the clip, ()",
}


class LatentWriter:
    """Writes shards as they fill; memory is bounded by one shard."""

    def __init__(self, folder: Path, rows_per_shard: int, vae_hash: str, encoders_hash: str, scaling_factor: float):
        folder.mkdir(parents=True)
        self._folder, self._rows = folder, rows_per_shard
        self._header = {"vae_hash": vae_hash, "encoders_hash": encoders_hash, "scaling_factor": scaling_factor}
        self._pending: dict[str, list[Tensor]] = {name: [] for name in FIELDS}
        self._ids: list[str] = []
        self._shards: list[int] = []
        self._waiting = 0

    def add(self, ids: list[str], fields: dict[str, Tensor]) -> None:
        """Append clips; ``fields`` as in FIELDS with the batch in front."""
        for position, id in enumerate(ids):
            for name in FIELDS:
                if not torch.isfinite(fields[name][position]).all():
                    raise PipelineError(f"{name} of clip {id} is not finite; look at the clip and the encoders")
        for name in FIELDS:
            self._pending[name].append(fields[name])
        self._ids += ids
        self._waiting += len(ids)
        if self._waiting >= self._rows:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            shard = {name: torch.cat(parts).contiguous() for name, parts in self._pending.items()}
            save_file(shard, self._folder / f"part-{len(self._shards):05d}.safetensors")
            self._shards.append(self._waiting)
            self._pending = {name: [] for name in FIELDS}
            self._waiting = 0

    def close(self, null: dict[str, Tensor]) -> None:
        """Write the last shard, the conditions of nothing and the index."""
        self._flush()
        save_file({name: tensor.contiguous() for name, tensor in null.items()}, self._folder / "null.safetensors")
        index = {**self._header, "shards": self._shards, "ids": self._ids}
        (self._folder / "index.json").write_text(json.dumps(index))


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
        lacking = {"ids", "shards", "vae_hash", "encoders_hash", "scaling_factor"} - set(index)
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

    def null(self) -> dict[str, Tensor]:
        """``text`` (L, D), ``image_tokens`` (T, D), ``image_embedding`` (1, D) of nothing."""
        return load_file(self.folder / "null.safetensors")

    def row(self, index: int, fields=tuple(FIELDS)) -> dict[str, Tensor]:
        """Fields of one clip, float32."""
        shard = next(i for i in range(len(self._starts) - 1) if index < self._starts[i + 1])
        if shard not in self._handles:
            path = self.folder / f"part-{shard:05d}.safetensors"
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
