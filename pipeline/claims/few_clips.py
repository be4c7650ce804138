"""A part of a latents folder, as a latents folder: the clips that a training on few clips sees."""

from pathlib import Path

from pipeline.data.latents import LatentSet, part_file, write_index, write_null, write_part
from pipeline.errors import PipelineError
from pipeline.seeding import seed_for

ROWS_PER_PART = 64


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
    parts = [chosen[begin : begin + ROWS_PER_PART] for begin in range(0, count, ROWS_PER_PART)]
    named = [[latents.ids[place] for place in part] for part in parts]
    folder.mkdir(parents=True)
    for number, (part, names) in enumerate(zip(parts, named, strict=True)):
        write_part(folder / part_file(number), names, latents.batch(part))
    write_null(folder, latents.null())
    write_index(folder, named, latents.header)
    return [name for names in named for name in names]
