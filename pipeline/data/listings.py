"""Listings of WebVid, UCF101 and ImageBench as rows of one kind; what is wrong with a row travels with it."""

import csv
import re
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.storage import Folder, exists, folder_at, local_file
from pipeline.errors import PipelineError
from pipeline.urls import is_url

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
VIDEOS = (".mp4", ".avi", ".webm", ".mkv", ".mov")


class Row(NamedTuple):
    """One row of a listing. ``problem`` is (reason, detail) where it cannot give a clip."""

    number: int  # from 0
    id: str
    source: str  # path inside the data folder
    caption: str
    label: str = ""
    problem: tuple[str, str] | None = None


def read_listing(
    layout: str,
    listing: Path | str,
    videos: Path | str | Folder,
    columns,
    where: str,
    wanted: Callable[[int], bool] | None = None,
) -> Iterator[Row]:
    """Rows in file order, duplicates and unsafe paths marked. ``where``: the key of params.yaml, for messages.

    Paths, which cost system calls, are looked at only in rows whose number is ``wanted`` (None: all); the other rows
    come too, and count as every row for duplicates. ``listing`` and ``videos``: local paths or URLs.
    Raises PipelineError where files are missing or a needed column is not there.
    """
    for place, what in ((listing, "listing"), (videos, "videos")):
        if not exists(str(place) if isinstance(place, Folder) else place, f"{where}.{what}"):
            raise PipelineError(f"{where}.{what}: {place} does not exist")
    folder, read = folder_at(videos, f"{where}.videos"), LAYOUTS[layout]
    root = None if is_url(folder.place) else Path(folder.place).resolve()
    with local_file(listing, f"{where}.listing") as path:
        repeated, first = _repeated(read(path, folder, columns, where)), set()
        for row in read(path, folder, columns, where):
            if row.problem is None and hash(row.id) in repeated:
                if row.id in first:
                    row = row._replace(problem=("duplicate_id", "an earlier row has this id"))
                first.add(row.id)
            if row.problem is None and (wanted is None or wanted(row.number)):
                row = row._replace(problem=_unsafe(root, row.source))
            yield row


def _repeated(rows: Iterator[Row]) -> set[int]:
    """Hashes of the ids of more than one row (and a hash that two ids share): eight bytes a row while it looks."""
    hashes = array("q", (hash(row.id) for row in rows if row.problem is None))
    ordered = np.sort(np.frombuffer(hashes, np.int64))
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _unsafe(root: Path | None, source: str) -> tuple[str, str] | None:
    """``root``: where links are looked at; None for a URL, which has none."""
    if source.startswith("/") or ".." in source.split("/"):
        return "unsafe_path", f"{source} leads out of the data folder"
    try:
        if root and not (root / source).resolve().is_relative_to(root):
            return "unsafe_path", f"{source} is a link out of the data folder"
    except (OSError, ValueError, RuntimeError) as error:  # the last: links that lead to each other
        return "bad_row", f"not a path: {error}"
    return None


def _csv_rows(listing: Path, needed: dict[str, str], where: str) -> Iterator[list[str]]:
    """Of each row the values of the ``needed`` columns (role: name), in that order; empty where a row is cut short."""
    csv.field_size_limit(1 << 24)
    with listing.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.reader(file)
        try:
            found = next(reader, [])
            for role, column in needed.items():
                if column not in found:
                    raise PipelineError(
                        f"{listing.name} ({where}.listing) has no column {column!r}, which "
                        f"{where}.columns.{role} names; "
                        f"its columns: {', '.join(found)}"
                    )
            places = [found.index(column) for column in needed.values()]
            for row in reader:
                if row:
                    yield [row[place] if place < len(row) else "" for place in places]
        except csv.Error as error:
            raise PipelineError(
                f"{listing.name} ({where}.listing), line {reader.line_num}: not a CSV row ({error})"
            ) from None


def _webvid(listing: Path, videos: Folder, columns, where: str) -> Iterator[Row]:
    needed = {"id": columns.id, "caption": columns.caption} | ({"folder": columns.folder} if columns.folder else {})
    for number, (id, caption, *rest) in enumerate(_csv_rows(listing, needed, where)):
        id, folder = id.strip(), rest[0].strip() if rest else ""
        if not id or "\0" in id or "\0" in folder:
            yield Row(number, id, "", caption, "", ("bad_row", f"no usable value in column {columns.id}"))
            continue
        name = id if id.endswith(VIDEOS) else f"{id}.mp4"
        yield Row(number, id, f"{folder}/{name}" if folder else name, caption)


def class_caption(name: str) -> str:
    """'ApplyEyeMakeup' -> 'Apply Eye Makeup'."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)


def _ucf101(listing: Path, videos: Folder, columns, where: str) -> Iterator[Row]:
    with listing.open(encoding="utf-8", errors="replace") as file:
        lines = (line.strip() for line in file)
        for number, line in enumerate(line for line in lines if line):
            source = line.split()[0]
            label = Path(source).parent.name
            if not label:
                yield Row(number, source, source, "", problem=("bad_row", "expected Class/video.avi"))
                continue
            yield Row(number, Path(source).stem, source, class_caption(label), label)


def _imagebench(listing: Path, videos: Folder, columns, where: str) -> Iterator[Row]:
    listed, number = set(), -1
    for number, (name, prompt) in enumerate(_csv_rows(listing, {"id": columns.id, "caption": columns.caption}, where)):
        name = name.strip()
        if not name or "\0" in name:
            yield Row(number, name, "", prompt, problem=("bad_row", f"no usable value in column {columns.id}"))
            continue
        listed.add(name)
        missing = None if prompt.strip() else ("no_prompt", "the listing gives no prompt for this picture")
        yield Row(number, name, name, prompt, problem=missing)
    for name in videos.names():
        if Path(name).suffix.lower() in PICTURES and name not in listed:
            number += 1
            yield Row(number, name, name, "", problem=("no_prompt", "the listing does not name this picture"))


LAYOUTS = {"webvid": _webvid, "ucf101": _ucf101, "imagebench": _imagebench}
