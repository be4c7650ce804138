"""A part of a latents folder, as a latents folder: the clips that a training on few clips sees."""

from pathlib import Path

from pipeline.data.latents import LatentSet, LatentWriter
from pipeline.errors import PipelineError
from pipeline.seeding import seed_for

ROWS_PER_SHARD = 512


def write_few(latents: LatentSet, count: int, seed: int, folder: Path) -> list[str]:
    """Write ``count`` clips, drawn by (seed, id), into ``folder``; returns their ids in order.

    Raises PipelineError where there are fewer.
    """
    if len(latents) < count:
        raise PipelineError(
            f"claims.design.few.clips asks for {count} clips, {latents.folder.name} holds {len(latents)}; lower it"
        )
    order = sorted(range(len(latents)), key=lambda place: seed_for(seed, "few clips", latents.ids[place]))
    chosen = sorted(order[:count])
    writer = LatentWriter(
        folder, ROWS_PER_SHARD, latents.vae_hash, latents.encoders_hash, latents.scaling_factor
    )  # fmt: skip
    for begin in range(0, count, ROWS_PER_SHARD):
        part = chosen[begin : begin + ROWS_PER_SHARD]
        writer.add([latents.ids[place] for place in part], latents.batch(part))
    writer.close(latents.null())
    return [latents.ids[place] for place in chosen]
