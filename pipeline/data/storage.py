"""Where a clip set's listing and files lie: in a local folder, or behind any URL that fsspec opens.

A file of a folder is used as a local one: where it lies, or fetched for the time of its use. A folder that is gone or
does not answer is an error of its own; without that, every file of it would count as missing.
"""

import errno
import ftplib
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from tqdm import tqdm

from pipeline.errors import PipelineError, lacks_space, one_line
from pipeline.urls import is_url

log = logging.getLogger(__name__)
PAUSES = (0.5, 2.0, 8.0)  # seconds before a fetch that failed is tried again
ARCHIVES = ("zip", "tar", "libarchive")
# What file systems say of a file's content, the surest first; without any of these its size stands for it.
MARKS = (
    *("md5", "md5Hash", "content_md5", "Content-MD5", "Digest", "ETag", "etag", "sha256", "blob_id", "sha", "hex"),
    *("checksum", "mtime", "modify", "LastModified", "last_modified", "Last-Modified", "modified", "last_write_time"),
    *("modificationTime", "updated", "created"),
)


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
            system, path = _system(self.place, self.key)
            found = system.ls(path, detail=False)
        except PipelineError:
            raise
        except Exception as error:  # each protocol has its own kinds
            raise self._gone(error) from None
        names = (str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)
        return sorted(unquote(name) if _is_http(self.place) else name for name in names)

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
        """A folder without entries counts as gone here, too; an archive or a web server's page has none to ask for."""
        try:
            if not _look(self.place, self.key):
                raise FileNotFoundError("there is nothing")
            system, path = _system(self.place, self.key)
            if not (_around(self.place) or _is_http(self.place) or system.ls(path, detail=False)):
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
        place, key, name = self.folder.place, self.folder.key, self.name
        name = quote(name) if _is_http(place) else name
        for pause in (*PAUSES, None):
            try:
                system, root = _system(place, key)  # some connect here
                source = f"{root.rstrip('/')}/{name}"
                system.get_file(source, str(path))
                return
            except PipelineError:
                raise
            except Exception as error:
                path.unlink(missing_ok=True)
                _require_space(error)
                if isinstance(error, FileNotFoundError) or _is_missing_on_ftp(error, system, source):
                    self.folder.require()
                    return
                _forget(place)  # its connection may be dead
                if pause is None:
                    self.folder.require()
                    raise OSError(errno.EIO, one_line(error)) from None
                time.sleep(pause)


@dataclass(frozen=True)
class Contents:
    """What lies at an address: a file, or all in a folder and below it."""

    files: int
    bytes: int
    digest: str  # SHA-256 of names, sizes and marks; it does not depend on the order in which a server lists them


def look_at(url: str, key: str) -> Contents:
    """Asks for the listing of every folder; no file is read. Of a place in an archive, the archive counts as a whole.

    Raises PipelineError where there is nothing, or a change of it could not be told.
    """
    lines, size, unmarked = [], 0, 0
    address = _around(url) or url
    _forget(address)
    try:
        system, root = _system(address, key)
        for name, info in tqdm(_files(system, root.rstrip("/") or root), desc=address, unit="file", disable=None):
            mark = _mark(info)
            size, unmarked = size + (info.get("size") or 0), unmarked + (not mark)
            if not mark and info.get("size") is None:
                raise PipelineError(f"{key}: {url} tells neither size nor time of {name}, so a change would go unseen")
            if info.get("mimetype") == "text/html":
                raise PipelineError(
                    f"{key}: {url} is a page of a web server, which tells nothing of the files it names; write the "
                    f"address itself into params.yaml"
                )
            lines.append(hashlib.sha256(f"{name}\0{info.get('size')}\0{mark}".encode()).digest())
    except PipelineError:
        raise
    except Exception as error:
        raise PipelineError(f"{key}: {url} cannot be listed ({one_line(error)})") from None
    if not lines:
        raise PipelineError(f"{key}: there is nothing at {url}")
    if unmarked:
        log.warning("%s: of %d of %d files only the size tells whether they change", url, unmarked, len(lines))
    return Contents(len(lines), size, hashlib.sha256(b"".join(sorted(lines))).hexdigest())


def _mark(info: dict) -> str:
    """Of a file's content; empty where there is none, or one that ages, as the time in an old FTP server's listing."""
    return "" if "unix.mode" in info else next((str(info[mark]) for mark in MARKS if info.get(mark) is not None), "")


def _files(system, root: str) -> Iterator[tuple[str, dict]]:
    """Name, relative to ``root``, and description of every file at or below it."""
    about = system.info(root)
    if about["type"] != "directory":
        yield "", about
        return
    for _, _, files in system.walk(root, detail=True, on_error="raise"):
        for info in files.values():
            yield str(info["name"]).removeprefix(root).lstrip("/"), info


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
    system, path = _system(url, key)
    if archive := _around(url):
        if not _look(archive, key):
            return False
    elif system.cachable:
        system.invalidate_cache()
    else:  # fsspec, too, connects anew for such a protocol
        _forget(url)
        system, path = _system(url, key)
    try:
        system.info(path)
    except FileNotFoundError as error:
        cause = error.__cause__  # for HTTP fsspec says "not found" of every failure
        if _is_http(url) and cause is not None and not 400 <= getattr(cause, "status", 0) < 500:
            raise cause from None
        return False
    return True


@contextmanager
def local_file(place: str | Path, key: str) -> Iterator[Path]:
    """A single file as a local one: where it lies, or fetched and removed. Raises PipelineError."""
    if not is_url(place):
        yield Path(place)
        return
    with _scratch() as scratch:
        try:
            system, path = _system(str(place), key)
            fetched = scratch / (Path(path).name or "file")
            with system.open(path, "rb") as source, fetched.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
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


_systems: dict[str, tuple] = {}


def _system(url: str, key: str):
    """fsspec's file system of a URL, kept for the process until it is forgotten, and the path in it."""
    import fsspec

    if url not in _systems:
        try:
            _systems[url] = fsspec.core.url_to_fs(url, skip_instance_cache=True)
        except ImportError as error:
            raise PipelineError(f"{key}: {url} needs a package that is not installed ({error})") from None
        except ValueError as error:
            raise PipelineError(f"{key}: {url} is no address that fsspec knows ({error})") from None
    return _systems[url]


def _forget(url: str) -> None:
    """Connect anew the next time, and look at what is there then."""
    _systems.pop(url, None)


def _around(url: str) -> str | None:
    """The address of the archive that a place lies in; None where it lies in none."""
    protocol, _, rest = url.partition("://")
    return rest.partition("::")[2] or None if protocol in ARCHIVES else None


def _is_http(url: str) -> bool:
    """Also behind a cache."""
    return not _around(url) and url.rpartition("::")[2].startswith(("http://", "https://"))


def _is_missing_on_ftp(error: Exception, system, path: str) -> bool:
    """FTP has no error of its own for that: 550 may be a refusal, too, of a file that its folder names."""
    if not (isinstance(error, ftplib.error_perm) and str(error).startswith("550")):
        return False
    try:
        system.invalidate_cache()
        system.info(path)
    except FileNotFoundError:
        return True
    except Exception:  # asked again by the next attempt
        return False
    return False
