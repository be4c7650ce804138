"""Runs stages made of parts, as the runner does; small clips and latents folders."""

from pathlib import Path
from types import SimpleNamespace

from pipeline.data import latents as latents_module
from pipeline.data.schema import ClipWriter, part_file
from pipeline.engine.parts import Parts, Shard


def run_parted(module, stage: SimpleNamespace, shards: int = 1, order=None) -> None:
    """Run a stage's shards, in ``order`` (by number, default), then the stage itself, which joins their parts."""
    folder = stage.outputs[0].with_name(f".state-{stage.outputs[0].name}")
    for number in order or range(shards if shards > 1 else 0):
        stage.parts = Parts(folder, Shard(number, shards))
        module.make_parts(stage)
    stage.parts = Parts(folder)
    module.merge(stage, module.make_parts(stage))


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, or the file itself, by its name inside."""
    if folder.is_file():
        return {"": folder.read_bytes()}
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_clips(folder: Path, rows: list[dict], rows_per_part: int = 1000) -> Path:
    """A clips folder of these rows."""
    for number, first in enumerate(range(0, len(rows), rows_per_part)):
        with ClipWriter(folder / part_file(number)) as writer:
            for row in rows[first : first + rows_per_part]:
                writer.add(row)
    return folder


def write_latents(folder: Path, parts: list[tuple[list[str], dict]], null: dict, vae_hash: str = "vae") -> Path:
    """A latents folder of these parts, each (ids, fields)."""
    folder.mkdir(parents=True)
    for number, (ids, fields) in enumerate(parts):
        latents_module.write_part(folder / latents_module.part_file(number), ids, fields)
    latents_module.write_null(folder, null)
    header = {"vae_hash": vae_hash, "encoders_hash": "encoders", "scaling_factor": 0.5}
    latents_module.write_index(folder, [ids for ids, _ in parts], header)
    return folder
