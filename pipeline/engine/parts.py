"""What a long stage has finished, on disk, until all of it is whole.

A part is a fixed range of a stage's items, whatever the number of shards. Shard k of N makes the parts k, k + N, …: any
free machine can take one, and a part that is finished is never made again. Results thus depend neither on the number
of shards nor on their order.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError


@dataclass(frozen=True)
class Shard:
    """Every ``count``-th part, from part ``number`` on."""

    number: int = 0
    count: int = 1

    def takes(self, part: int) -> bool:
        return part % self.count == self.number

    def __str__(self) -> str:
        return f"{self.number}-of-{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From ``str(shard)``. Raises PipelineError."""
        number, _, count = text.partition("-of-")
        if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
            raise PipelineError(f"{text!r} is not a shard; expected K-of-N with K from 0 to N - 1")
        return cls(int(number), int(count))


WHOLE = Shard()
ANEW = "anew."  # begins the names of the marks in a job's state that say how often it was begun anew


class Parts:
    """The parts in ``folder``, one sub-folder each; ``shard``: which of them this process makes; ``times``: how often
    they were begun anew."""

    def __init__(self, folder: Path, shard: Shard = WHOLE, times: int = 0):
        self.folder, self.shard, self.times = folder, shard, times

    def path(self, number: int) -> Path:
        """Folder of one part; it exists when the part is finished."""
        return self.folder / f"{number:06d}"

    def wanted(self, number: int) -> bool:
        """Whether this process is to make the part."""
        return self.shard.takes(number) and not self.path(number).exists()

    def own(self) -> list[Path]:
        """The finished parts that are this process's to make."""
        return [path for path in sorted(self.folder.glob("[0-9]*")) if self.shard.takes(int(path.name))]

    def missing(self, total: int) -> list[int]:
        """The parts, of ``total``, that this process is to make."""
        return [number for number in range(self.shard.number, total, self.shard.count) if self.wanted(number)]

    @contextmanager
    def writing(self, number: int) -> Iterator[Path]:
        """A temporary folder that becomes the part when the block ends well."""
        temporary = self.folder / f".{number:06d}.partial-{os.uname().nodename}-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            flush(temporary)
            with suppress(FileExistsError):  # made by another process meanwhile: the same bytes
                _rename_to_new(temporary, self.path(number))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def finished(self, total: int) -> list[Path]:
        """The folders of all ``total`` parts in order. Raises PipelineError where one is missing."""
        paths = [self.path(number) for number in range(total)]
        lacking = [path.name for path in paths if not path.exists()]
        if lacking:
            raise PipelineError(f"{self.folder} lacks parts {', '.join(lacking[:5])} of {total}; run the stage again")
        return paths


def parts_of(state: Path, shard: Shard = WHOLE) -> Parts:
    """The parts in a job's state that count: those made since it was last begun anew."""
    times = len(list(state.glob(f"{ANEW}*")))
    return Parts(state / (f"parts.{times}" if times else "parts"), shard, times)


def begin_anew(state: Path) -> None:
    """From now on no part counts that any shard has made, or is still making."""
    (state / f"{ANEW}{len(list(state.glob(f'{ANEW}*'))) + 1}").touch()


def _rename_to_new(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        raise FileExistsError(target) from None


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there; a folder loses its name first: half of one is never taken for it."""
    gone = path.with_name(f".{path.name}.partial-gone")
    shutil.rmtree(gone, ignore_errors=True)  # a removal that was killed
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    path.rename(gone)
    shutil.rmtree(gone)


def flush(path: Path) -> None:
    """Bring a file, or a folder with all that is in it, to the disk."""
    for item in [path, *path.rglob("*")] if path.is_dir() else [path]:
        descriptor = os.open(item, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def link(source: Path, target: Path) -> None:
    """Give a finished file or folder a second name, without a copy of files where the file system can."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for item in sorted(source.iterdir()):
            link(item, target / item.name)
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
