"""Turn a listing and its videos into clips. Reads a CSV or split file and a folder; writes Parquet clips and rejects.

Every row of the listing ends in the clips or, with a reason, in rejects.parquet.
"""

from pathlib import Path


def add_arguments(parser):
    parser.add_argument("--set", required=True, help="a key of clip_sets in params.yaml")


def run(stage):
    from pipeline.data.listings import read_listing
    from pipeline.data.preprocess import preprocess
    from pipeline.data.rules import clip_rule, explain_empty

    name = stage.args.set
    clips, spec = stage.params.clips, stage.params.clip_sets[name]
    listing, videos = stage.inputs
    rows = read_listing(spec.layout, listing, videos, spec.columns, f"clip_sets.{name}")
    total, count, rejects = preprocess(
        (row for row in rows if spec.limit is None or row.number < spec.limit),
        videos,
        clip_rule(clips, spec),
        spec.layout == "imagebench",
        stage.outputs[0],
        clips.rows_per_shard,
        stage.workers,
    )
    stage.log.info("%d rows: %d clips, %d rejects %s", total, count, rejects.count, rejects.reasons or "")
    stage.record.metrics({"rows": total, "clips": count, "rejects": rejects.count})
    stage.record.metrics({f"rejects_{reason}": number for reason, number in rejects.reasons.items()})
    if count == 0:
        explain_empty(name, stage.outputs[0], total, rejects.reasons, Path("logs"))
