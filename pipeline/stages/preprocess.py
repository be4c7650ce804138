"""Turn a listing and its videos into clips. Reads a CSV or split file and a folder; writes Parquet clips and rejects.

Every row of the listing ends in the clips or, with a reason, in rejects.parquet. A part: clips.rows_per_part rows of
the listing.
"""

import functools
from pathlib import Path


def add_arguments(parser):
    parser.add_argument("--set", required=True, help="a key of clip_sets in params.yaml")


def make_parts(stage) -> int:
    from pipeline.data.listings import read_listing
    from pipeline.data.pointers import followed
    from pipeline.data.preprocess import make_parts
    from pipeline.data.rules import clip_rule
    from pipeline.data.storage import folder_at

    name = stage.args.set
    clips, spec = stage.params.clips, stage.params.clip_sets[name]
    if stage.parts.shard.number == 0 or stage.parts.times:  # one is enough before a change; merge looks at the end
        _require_unchanged(stage)
    listing, videos = followed(stage.inputs[0]), folder_at(followed(stage.inputs[1]), f"clip_sets.{name}.videos")
    is_wanted = functools.cache(stage.parts.wanted)

    def is_in_set(number: int) -> bool:
        return spec.limit is None or number < spec.limit

    rows = read_listing(
        spec.layout, listing, videos, spec.columns, f"clip_sets.{name}",
        wanted=lambda number: is_in_set(number) and is_wanted(number // clips.rows_per_part),
    )  # fmt: skip
    return make_parts(
        (row for row in rows if is_in_set(row.number)),
        videos,
        clip_rule(clips, spec),
        spec.layout == "imagebench",
        stage.parts,
        clips.rows_per_part,
        stage.workers,
    )


def merge(stage, total: int) -> None:
    from pipeline.data.preprocess import merge_parts
    from pipeline.data.rules import explain_empty

    _require_unchanged(stage)
    rows, clips, reasons = merge_parts(stage.parts.finished(total), stage.outputs[0])
    rejects = sum(reasons.values())
    stage.log.info("%d rows: %d clips, %d rejects %s", rows, clips, rejects, reasons or "")
    stage.record.metrics({"rows": rows, "clips": clips, "rejects": rejects})
    stage.record.metrics({f"rejects_{reason}": number for reason, number in reasons.items()})
    if clips == 0:
        explain_empty(stage.args.set, stage.outputs[0], rows, reasons, Path("logs"))


def _require_unchanged(stage) -> None:
    from pipeline.data.pointers import require_unchanged

    for place, what in zip(stage.inputs, ("listing", "videos"), strict=True):
        require_unchanged(place, f"clip_sets.{stage.args.set}.{what}")
