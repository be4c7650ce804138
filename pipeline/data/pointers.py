"""Pointer files: each stands in params.yaml for data behind an address of which DVC can keep no record.

It says what lay there when it was written. DVC records the pointer; the stage that reads the data compares it with what
lies there then, so that no result is recorded for data of which it was not made.
"""

import hashlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError
from ruamel.yaml import YAML, YAMLError
from tqdm import tqdm

from pipeline.data.remote import around, asked, forget
from pipeline.errors import DataChanged, PipelineError, one_line
from pipeline.params.base import Group, Positive, Sha256
from pipeline.urls import POINTER, is_pointer, without_secret

log = logging.getLogger(__name__)
# What file systems say of a file's content, the surest first; without any of these its size stands for it.
MARKS = (
    *("md5", "md5Hash", "content_md5", "Content-MD5", "Digest", "ETag", "etag", "sha256", "blob_id", "sha", "hex"),
    *("checksum", "mtime", "modify", "LastModified", "last_modified", "Last-Modified", "modified", "last_write_time"),
    *("modificationTime", "updated", "created"),
)
HEAD = "# Stands for data behind an address that DVC cannot watch; written by `python -m pipeline pointer`.\n"


class Pointer(Group):
    url: Annotated[str, AfterValidator(without_secret)]
    files: Positive
    bytes: int = Field(ge=0)
    digest: Sha256  # of names, sizes and what marks their content


def pointer_to(url: str, key: str) -> Pointer:
    """What lies at an address now, by the listing of every folder; no file is read. Of a place in an archive, the
    archive counts as a whole.

    Raises PipelineError, which names ``key``, where a change could not be told; DataChanged where there is nothing.
    """
    try:
        address = around(without_secret(url)) or url
    except ValueError as error:
        raise PipelineError(f"{key}: {error}") from None
    forget(address)
    try:
        files = asked(address, key, lambda system, root: list(_described(system, root.rstrip("/") or root, key)))
    except PipelineError:
        raise
    except Exception as error:
        raise PipelineError(f"{key}: {url} cannot be listed ({one_line(error)})") from None
    if not files:
        raise DataChanged(f"{key}: there is nothing at {url}")
    lines, sizes, marked = zip(*files, strict=True)
    if not all(marked):
        unmarked = len(files) - sum(marked)
        log.warning("%s: of %d of %d files only the size tells whether they change", url, unmarked, len(files))
    digest = hashlib.sha256(b"".join(sorted(lines))).hexdigest()  # whatever the order in which a server lists them
    return Pointer(url=url, files=len(files), bytes=sum(sizes), digest=digest)


def _described(system, root: str, key: str) -> Iterator[tuple[bytes, int, bool]]:
    """Of each file a digest of its description, its bytes, and whether it has a mark of its content."""
    for name, info in tqdm(_files(system, root), desc=root, unit="file", disable=None):
        mark, size = _mark(info), info.get("size")
        if not mark and size is None:
            raise PipelineError(f"{key}: {root} tells neither size nor time of {name}, so a change would go unseen")
        if info.get("mimetype") == "text/html":
            raise PipelineError(
                f"{key}: {root} is a page of a web server, which tells nothing of the files it names; write the "
                f"address itself into params.yaml"
            )
        yield hashlib.sha256(f"{name}\0{size}\0{mark}".encode()).digest(), size or 0, bool(mark)


def _mark(info: dict) -> str:
    """Of a file's content; empty where there is none. What an old FTP server prints of its time changes as it ages."""
    aged = "unix.mode" in info and not re.match(r"\d{14}", str(info.get("modify")))
    marks = (str(info[mark]) for mark in MARKS if info.get(mark) is not None and not (aged and mark == "modify"))
    return next(marks, "")


def _files(system, root: str) -> Iterator[tuple[str, dict]]:
    """Name, relative to ``root``, and description of every file at or below it."""
    about = system.info(root)
    if about["type"] != "directory":
        yield "", about
        return
    for _, _, files in system.walk(root, detail=True, on_error="raise"):
        for info in files.values():
            yield str(info["name"]).removeprefix(root).lstrip("/"), info


def read_pointer(path: Path | str) -> Pointer:
    """Raises PipelineError where it is not there, or is no pointer."""
    path = Path(path)
    try:
        return Pointer(**(YAML(typ="safe").load(path.read_text()) or {}))
    except FileNotFoundError:
        raise PipelineError(f"{path} does not exist; `python -m pipeline pointer {path} --url URL` writes it") from None
    except (OSError, UnicodeDecodeError, YAMLError, TypeError, ValidationError) as error:
        why = one_line(error)
        if isinstance(error, ValidationError):  # whose text has the values, too
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
        raise PipelineError(
            f"{path} is no pointer file ({why}); `python -m pipeline pointer {path} --url URL` writes it anew"
        ) from None


def write_pointer(path: Path, pointer: Pointer) -> None:
    """Raises PipelineError where the name is not that of a pointer, or it cannot be written."""
    if not is_pointer(path):
        raise PipelineError(f"{path}: a pointer's name ends with {POINTER}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.partial")
        with temporary.open("w") as file:
            file.write(HEAD)
            YAML().dump(pointer.model_dump(), file)
        temporary.replace(path)
    except OSError as error:
        raise PipelineError(f"{path} cannot be written ({one_line(error)})") from None


def followed(place: Path | str) -> Path | str:
    """The address that a pointer stands for; any other place as it is."""
    return read_pointer(place).url if is_pointer(place) else place


def require_unchanged(place: Path | str, key: str) -> None:
    """Raise DataChanged where a pointer's data is not what it says; other places DVC watches.

    Asks for the listing of every folder behind it.
    """
    if not is_pointer(place):
        return
    said = read_pointer(place)
    now = pointer_to(said.url, key)
    if now != said:
        raise DataChanged(
            f"{key}: what lies at {said.url} is not what {place} says ({said.files} files of {said.bytes} bytes then, "
            f"{now.files} of {now.bytes} now); `python -m pipeline pointer {place}` takes it as it is now, and the "
            f"next run makes again what rests on it"
        )
