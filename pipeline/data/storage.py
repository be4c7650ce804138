"""Where a clip set's listing and files lie: in a local folder, or behind any URL that fsspec opens.

A file of a folder is used as a local one: where it lies, or fetched for the time of its use. A folder that is gone or
does not answer is an error of its own; without that, every file of it would count as missing.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from pipeline.data.remote import around, asked, is_http, is_missing_on_ftp
from pipeline.errors import PipelineError, lacks_space, one_line
from pipeline.urls import is_url

# Of these a folder may be there and empty, as where a disk was mounted; others know no empty folders.
REAL_FOLDERS = ("ftp://", "sftp://", "ssh://", "smb://", "hdfs://", "webhdfs://", "webdav://", "webdavs://")


@dataclass(frozen=True)
class Folder:
    """A folder of files; plain values, it travels to worker processes. ``folder / name`` is a File."""

    place: str  # path or URL
    key: str  # of params.yaml, for messages

    def __truediv__(self, name: str) -> "File":
        return File(self, name)

    def __str__(self) -> str:
        return self.place

    def names(self) -> list[str]:
        """Of the files in it, sorted."""
        if not is_url(self.place):
            return sorted(path.name for path in Path(self.place).iterdir())
        try:
            found = self._entries()
        except PipelineError:
            raise
        except Exception as error:  # each protocol has its own kinds
            raise self._gone(error) from None
        names = (str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)
        return sorted(unquote(name) if is_http(self.place) else name for name in names)

    def _entries(self) -> list[str]:
        return asked(self.place, self.key, lambda system, path: system.ls(path, detail=False))

    def require(self) -> None:
        """Raise PipelineError where the folder is not there, or does not answer."""
        if is_url(self.place):
            self._require_remote()
        else:
            self._require_local()

    def _require_local(self) -> None:
        """A folder without entries counts as gone: that is what stays where a disk was mounted."""
        try:
            with os.scandir(self.place) as entries:
                if next(entries, None) is not None:
                    return
        except OSError as error:
            raise self._gone(error) from None
        raise self._gone(OSError(errno.ENOENT, "it is empty; is its disk mounted?"))

    def _require_remote(self) -> None:
        """A folder without entries counts as gone here, too."""
        try:
            if not _look(self.place, self.key):
                raise FileNotFoundError("there is nothing")
            if self.place.startswith(REAL_FOLDERS) and not self._entries():
                raise FileNotFoundError("it is empty")
        except Exception as error:
            raise self._gone(error) from None

    def _gone(self, error: Exception) -> PipelineError:
        return PipelineError(
            f"{self.key}: {self.place} is gone or cannot be reached ({one_line(error)}); "
            f"nothing was taken for missing: mend that and run again, finished parts stay"
        )


@dataclass(frozen=True)
class File:
    """A file of a folder, by its path in it."""

    folder: Folder
    name: str

    @contextmanager
    def local(self) -> Iterator[Path]:
        """It as a local path, which need not exist. Raises PipelineError where the folder is gone, OSError where a file
        that is there cannot be fetched."""
        if not is_url(self.folder.place):
            yield self._watched(Path(self.folder.place) / self.name)
            return
        with _scratch() as scratch:
            path = scratch / ("file" + Path(self.name).suffix)
            self._fetch(path)
            yield path

    def _watched(self, path: Path) -> Path:
        try:
            there = path.exists()
        except OSError:  # a handle of a file server that is gone
            there = False
        if not there:
            self.folder.require()
        return path

    def _fetch(self, path: Path) -> None:
        """To ``path``, which does not exist afterwards where the file is missing."""
        place, name = self.folder.place, self.name
        name = quote(name) if is_http(place) else name

        def fetch(system, root: str) -> None:
            source = f"{root.rstrip('/')}/{name}"
            try:
                system.get_file(source, str(path))
            except Exception as error:
                path.unlink(missing_ok=True)
                _require_space(error)
                if is_missing_on_ftp(error, system, source):
                    raise FileNotFoundError(source) from None
                raise

        try:
            asked(place, self.folder.key, fetch)
        except FileNotFoundError:
            self.folder.require()
        except PipelineError:
            raise
        except Exception as error:
            self.folder.require()
            raise OSError(errno.EIO, one_line(error)) from None


def folder_at(place: str | Path | Folder, key: str) -> Folder:
    """The folder that ``key`` of params.yaml names."""
    return place if isinstance(place, Folder) else Folder(str(place), key)


def exists(place: str | Path, key: str) -> bool:
    """Whether a file or folder is there. Raises PipelineError where a URL's server does not answer."""
    if not is_url(place):
        return Path(place).exists()
    try:
        return _look(str(place), key)
    except PipelineError:
        raise
    except Exception as error:
        raise PipelineError(f"{key}: {place} cannot be reached ({one_line(error)})") from None


def _look(url: str, key: str) -> bool:
    """Whether something is there now; raises the protocol's own error where its server does not answer."""
    if (archive := around(url)) and not _look(archive, key):
        return False

    def look(system, path: str) -> bool:
        if not archive:  # whose table of contents is read once
            system.invalidate_cache()
        try:
            system.info(path)
        except FileNotFoundError as error:
            cause = error.__cause__  # for HTTP fsspec says "not found" of every failure
            if is_http(url) and cause is not None and not 400 <= getattr(cause, "status", 0) < 500:
                raise cause from None
            return False
        return True

    return asked(url, key, look)


@contextmanager
def local_file(place: str | Path, key: str) -> Iterator[Path]:
    """A single file as a local one: where it lies, or fetched and removed. Raises PipelineError."""
    if not is_url(place):
        yield Path(place)
        return
    with _scratch() as scratch:
        fetched = scratch / (Path(str(place).partition("::")[0]).name or "file")

        def fetch(system, path: str) -> None:
            with system.open(path, "rb") as source, fetched.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)

        try:
            asked(str(place), key, fetch)
        except PipelineError:
            raise
        except Exception as error:
            _require_space(error)
            raise PipelineError(f"{key}: {place} cannot be read ({one_line(error)})") from None
        yield fetched


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for what is fetched. Raises PipelineError where none can be made."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="fetched-")
    except OSError as error:
        raise PipelineError(f"no folder for what is fetched ({one_line(error)}); TMPDIR names another place") from None
    with folder as path:
        yield Path(path)


def _require_space(error: Exception) -> None:
    """Raise PipelineError where it was the local disk that failed."""
    if lacks_space(error):
        where = tempfile.gettempdir()
        raise PipelineError(
            f"no space left in {where} for what is fetched ({one_line(error)}); TMPDIR names another folder"
        ) from None
