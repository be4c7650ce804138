"""A listing into clips and rejects: every row ends in exactly one of the two."""

import functools
import logging
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from pipeline.data.decode import ClipRule, Reject, decode_picture, decode_video
from pipeline.data.listings import Row
from pipeline.data.schema import ClipWriter, RejectWriter
from pipeline.data.workers import LOST, map_in_order

SECONDS = 120.0  # for one source; a decoder that hangs is stopped
log = logging.getLogger(__name__)


def take_clips(row: Row, videos: Path, rule: ClipRule, pictures: bool) -> list[dict] | tuple[str, str]:
    """Rows of the schema for one row of the listing, or (reason, detail)."""
    if row.problem:
        return row.problem
    try:
        taken = (decode_picture if pictures else decode_video)(videos / row.source, row.id, rule)
    except Reject as reject:
        return reject.reason, str(reject)
    fields = {"source": row.source, "caption": row.caption, "label": row.label}
    return [{"id": row.id if clip["window"] == 0 else f"{row.id}#{clip['window']}", **fields, **clip} for clip in taken]


def preprocess(
    rows: Iterable[Row], videos: Path, rule: ClipRule, pictures: bool, folder: Path, rows_per_shard: int, workers: int
) -> tuple[int, int, RejectWriter]:
    """Write clips and rejects; returns how many rows there were, how many clips, and the rejects."""
    clips, rejects = ClipWriter(folder, rows_per_shard), RejectWriter(folder)
    total = used = 0
    work = functools.partial(take_clips, videos=videos, rule=rule, pictures=pictures)
    for row, answer in tqdm(map_in_order(work, rows, workers, SECONDS), unit="row", disable=None):
        total += 1
        if answer is LOST:
            answer = ("undecodable", f"its decoder crashed, or took over {SECONDS:.0f} s")
        if isinstance(answer, tuple):
            rejects.add(row.number, row.id, row.source, *answer)
            continue
        used += 1
        for clip in answer:
            clips.add(clip)
    clips.close()
    rejects.close()
    assert used + rejects.count == total, "a row of the listing was lost"
    return total, clips.count, rejects
