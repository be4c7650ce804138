"""Listings of WebVid, UCF101 and ImageBench as rows of one kind; what is wrong with a row travels with it."""

import csv
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import PipelineError

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@dataclass(frozen=True)
class Row:
    """One row of a listing. ``problem`` is (reason, detail) where it cannot give a clip."""

    number: int  # from 0
    id: str
    source: str  # path inside the data folder
    caption: str
    label: str = ""
    problem: tuple[str, str] | None = None


def read_listing(layout: str, listing: Path, videos: Path, columns, where: str) -> Iterator[Row]:
    """Rows in file order, duplicates and unsafe paths marked. ``where``: the key of params.yaml, for messages.

    Raises PipelineError where files are missing or a needed column is not there.
    """
    for path, what in ((listing, "listing"), (videos, "videos")):
        if not path.exists():
            raise PipelineError(f"{where}.{what}: {path} does not exist")
    rows = {"webvid": _webvid, "ucf101": _ucf101, "imagebench": _imagebench}[layout](listing, videos, columns, where)
    seen = SeenIds()
    root = videos.resolve()
    for row in rows:
        if row.problem is None and not seen.add(row.id):
            row = replace(row, problem=("duplicate_id", "an earlier row has this id"))
        if row.problem is None:
            row = replace(row, problem=_unsafe(root, row.source))
        yield row


class SeenIds:
    """Which ids were seen; on disk, so that memory does not grow with the listing."""

    def __init__(self):
        self._store = sqlite3.connect("")  # a temporary file
        self._store.execute("CREATE TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def add(self, id: str) -> bool:
        """Whether it is new."""
        return self._store.execute("INSERT OR IGNORE INTO seen VALUES (?)", (id,)).rowcount == 1


def _unsafe(root: Path, source: str) -> tuple[str, str] | None:
    path = Path(source)
    if path.is_absolute() or ".." in path.parts:
        return "unsafe_path", f"{source} leads out of the data folder"
    try:
        if not (root / path).resolve().is_relative_to(root):
            return "unsafe_path", f"{source} is a link out of the data folder"
    except (OSError, ValueError) as error:
        return "bad_row", f"not a path: {error}"
    return None


def _csv_rows(listing: Path, needed: dict[str, str], where: str) -> Iterator[dict]:
    csv.field_size_limit(1 << 24)
    with listing.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file)
        found = reader.fieldnames or []
        for role, column in needed.items():
            if column not in found:
                raise PipelineError(
                    f"{listing} has no column {column!r}, which {where}.columns.{role} names; "
                    f"its columns: {', '.join(found)}"
                )
        try:
            yield from reader
        except csv.Error as error:
            raise PipelineError(f"{listing}, line {reader.line_num}: not a CSV row ({error})") from None


def _webvid(listing: Path, videos: Path, columns, where: str) -> Iterator[Row]:
    needed = {"id": columns.id, "caption": columns.caption} | ({"folder": columns.folder} if columns.folder else {})
    for number, values in enumerate(_csv_rows(listing, needed, where)):
        id, caption = (values[columns.id] or "").strip(), values[columns.caption] or ""
        folder = (values[columns.folder] or "").strip() if columns.folder else ""
        if not id or "\0" in id + folder:
            yield Row(number, id, "", caption, problem=("bad_row", f"no usable value in column {columns.id}"))
            continue
        name = id if Path(id).suffix in (".mp4", ".avi", ".webm", ".mkv", ".mov") else f"{id}.mp4"
        yield Row(number, id, f"{folder}/{name}" if folder else name, caption)


def class_caption(name: str) -> str:
    """'ApplyEyeMakeup' -> 'Apply Eye Makeup'."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)


def _ucf101(listing: Path, videos: Path, columns, where: str) -> Iterator[Row]:
    with listing.open(encoding="utf-8", errors="replace") as file:
        lines = (line.strip() for line in file)
        for number, line in enumerate(line for line in lines if line):
            source = line.split()[0]
            label = Path(source).parent.name
            if not label:
                yield Row(number, source, source, "", problem=("bad_row", "expected Class/video.avi"))
                continue
            yield Row(number, Path(source).stem, source, class_caption(label), label)


def _imagebench(listing: Path, videos: Path, columns, where: str) -> Iterator[Row]:
    listed, number = set(), -1
    for number, values in enumerate(_csv_rows(listing, {"id": columns.id, "caption": columns.caption}, where)):
        name, prompt = (values[columns.id] or "").strip(), values[columns.caption] or ""
        if not name or "\0" in name:
            yield Row(number, name, "", prompt, problem=("bad_row", f"no usable value in column {columns.id}"))
            continue
        listed.add(name)
        missing = None if prompt.strip() else ("no_prompt", "the listing gives no prompt for this picture")
        yield Row(number, name, name, prompt, problem=missing)
    for path in sorted(videos.iterdir()):
        if path.suffix.lower() in PICTURES and path.name not in listed:
            number += 1
            yield Row(number, path.name, path.name, "", problem=("no_prompt", "the listing does not name this picture"))
