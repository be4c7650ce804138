"""A listing into clips and rejects, part by part: every row of the listing ends in exactly one of the two."""

import functools
import json
import logging
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from pipeline.data.decode import ClipRule, Reject, decode_picture, decode_video
from pipeline.data.listings import Row
from pipeline.data.schema import REJECTS_FILE, ClipWriter, merge_rejects, part_file, write_rejects
from pipeline.data.storage import Folder
from pipeline.data.workers import LOST, map_in_order
from pipeline.engine.parts import Parts, link

SECONDS = 120.0  # for one source; a decoder that hangs is stopped
CLIPS_FILE, COUNTS_FILE = "clips.parquet", "counts.json"
log = logging.getLogger(__name__)


def take_clips(row: Row, videos: Path | Folder, rule: ClipRule, pictures: bool) -> list[dict] | tuple[str, str]:
    """Rows of the schema for one row of the listing, or (reason, detail)."""
    if row.problem:
        return row.problem
    try:
        taken = (decode_picture if pictures else decode_video)(videos / row.source, row.id, rule)
    except Reject as reject:
        return reject.reason, str(reject)
    fields = {"source": row.source, "caption": row.caption, "label": row.label}
    return [{"id": row.id if clip["window"] == 0 else f"{row.id}#{clip['window']}", **fields, **clip} for clip in taken]


def make_parts(
    rows: Iterable[Row],
    videos: Path | Folder,
    rule: ClipRule,
    pictures: bool,
    parts: Parts,
    rows_per_part: int,
    workers: int,
) -> int:
    """Make the parts that are wanted, each of ``rows_per_part`` rows of the listing; returns how many there are."""
    seen, is_wanted = _Counted(rows), functools.cache(parts.wanted)  # once a part: none is taken in half
    wanted = (row for row in seen if is_wanted(row.number // rows_per_part))
    work = functools.partial(take_clips, videos=videos, rule=rule, pictures=pictures)
    answers = tqdm(_sound(map_in_order(work, wanted, workers, SECONDS), videos), unit="row", disable=None)
    for number, answered in groupby(answers, key=lambda answer: answer[0].number // rows_per_part):
        with parts.writing(number) as folder:
            _write_part(folder, answered)
    return -(-seen.count // rows_per_part)


def _sound(answers: Iterable[tuple], videos: Path | Folder) -> Iterator[tuple]:
    """Answers, unless one is lost because the whole folder hangs or is gone: PipelineError then."""
    for row, answer in answers:
        if answer is LOST and isinstance(videos, Folder):
            videos.require()
        yield row, answer


class _Counted:
    """Counts what passes."""

    def __init__(self, rows: Iterable[Row]):
        self._rows, self.count = rows, 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.count += 1
            yield row


def _write_part(folder: Path, answers) -> None:
    rejects, rows = [], 0
    with ClipWriter(folder / CLIPS_FILE) as clips:
        for row, answer in answers:
            rows += 1
            if answer is LOST:
                answer = ("undecodable", f"its decoder crashed, or took over {SECONDS:.0f} s")
            if isinstance(answer, tuple):
                reason, detail = answer
                fields = {"row": row.number, "id": row.id, "source": row.source}
                rejects.append({**fields, "reason": reason, "detail": detail})
                continue
            for clip in answer:
                clips.add(clip)
    write_rejects(folder / REJECTS_FILE, rejects)
    (folder / COUNTS_FILE).write_text(json.dumps({"rows": rows, "clips": clips.count}))


def merge_parts(paths: list[Path], folder: Path) -> tuple[int, int, dict[str, int]]:
    """Put finished parts into one clips folder; returns rows of the listing, clips, and rejects by reason."""
    folder.mkdir(parents=True)
    counts = [json.loads((path / COUNTS_FILE).read_text()) for path in paths]
    for number, (path, count) in enumerate(zip(paths, counts, strict=True)):
        if count["clips"]:
            link(path / CLIPS_FILE, folder / part_file(number))
    reasons = merge_rejects([path / REJECTS_FILE for path in paths], folder / REJECTS_FILE)
    return sum(count["rows"] for count in counts), sum(count["clips"] for count in counts), reasons
