"""What params.yaml says of a clip set, as the decoder's rule; and the error when nothing is left."""

import csv
from pathlib import Path

from pipeline.data.decode import ClipRule
from pipeline.data.schema import read_rejects
from pipeline.errors import PipelineError


def clip_rule(clips, spec) -> ClipRule:
    """From the groups ``clips`` and ``clip_sets.<name>``."""
    rule = spec.frame_rule
    strided = rule.kind == "uniform_stride"
    return ClipRule(
        seed=clips.seed,
        frames=clips.frames,
        height=clips.height,
        width=clips.width,
        windows=spec.windows,
        kind=rule.kind,
        stride_min=rule.min if strided else 1,
        stride_max=rule.max if strided else 1,
        fps=0.0 if strided else rule.fps,
        check=clips.check,
        codec=clips.codec.format,
        quality=clips.codec.quality,
    )


def explain_empty(name: str, folder: Path, total: int, reasons: dict[str, int], logs: Path) -> None:
    """Keep the rejects as a CSV that outlives the failed stage, and raise PipelineError."""
    logs.mkdir(exist_ok=True)
    kept = logs / f"rejects-{name}.csv"
    with kept.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["row", "id", "source", "reason", "detail"])
        writer.writeheader()
        writer.writerows(read_rejects(folder))
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "the listing is empty"
    raise PipelineError(
        f"clip_sets.{name}: none of {total} rows gave a clip ({counts}); nothing can be trained or measured on it. "
        f"Each row and its reason: {kept}"
    )
