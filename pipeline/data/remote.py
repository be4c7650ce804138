"""What lies behind addresses, asked of fsspec's file systems: patiently, and so that a failure is no answer."""

import ftplib
import time
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.ftp import FTPFileSystem

from pipeline.errors import PipelineError, lacks_space

T = TypeVar("T")
PAUSES = (0.5, 2.0, 8.0)  # seconds before what failed is tried again
PATIENCE = 25.0  # seconds after which it is not: a worker that fetches, then asks for the folder, has two minutes
ARCHIVES = ("zip", "tar", "libarchive")


class StrictFtp(FTPFileSystem):
    """fsspec's takes a folder that the server does not list just now for an empty one; this raises OSError."""

    def __init__(self, *args, timeout=10, **kwargs):
        super().__init__(*args, timeout=timeout, **kwargs)

    def ls(self, path, detail=True, **kwargs):
        entries = super().ls(path, detail, **kwargs)
        if self._strip_protocol(path) not in self.dircache:  # where only listings go that have come whole
            raise OSError(f"the server does not list {path or '/'} now")
        return entries

    def __del__(self):
        if hasattr(self, "ftp"):  # else it could not connect
            self.ftp.close()


fsspec.register_implementation("ftp", StrictFtp, clobber=True)
_systems: dict[str, tuple] = {}


def _system(url: str, key: str):
    """fsspec's file system of a URL, kept for the process until it is forgotten, and the path in it."""
    if url not in _systems:
        try:
            new = {_protocol(link): {"skip_instance_cache": True} for link in url.split("::")}
            _systems[url] = fsspec.core.url_to_fs(url, **new)
        except ImportError as error:
            raise PipelineError(f"{key}: {url} needs a package that is not installed ({error})") from None
        except ValueError as error:
            raise PipelineError(f"{key}: {url} is no address that fsspec knows ({error})") from None
    return _systems[url]


def _protocol(link: str) -> str:
    """Of a link of a chain: a URL, a protocol alone, or a local path."""
    protocol, _, path = link.partition("://")
    return "file" if not path and "/" in link else protocol


def forget(url: str) -> None:
    """Connect anew the next time, and look at what is there then."""
    _systems.pop(url, None)


def asked(url: str, key: str, question: Callable[[Any, str], T]) -> T:
    """What a URL's file system answers, asked again on a new connection where it fails; "not found" is an answer."""
    began = time.monotonic()
    for pause in (*PAUSES, None):
        try:
            return question(*_system(url, key))  # some connect here
        except (PipelineError, FileNotFoundError):
            raise
        except Exception as error:
            forget(url)
            if pause is None or lacks_space(error) or time.monotonic() - began > PATIENCE:
                raise
            time.sleep(pause)
    raise AssertionError("the last pause is None")


def _links(url: str) -> tuple[list[str], int]:
    """The links of a chain of file systems, and the number of the last that is an archive; -1 where none is."""
    links = url.split("::")
    archives = [number for number, link in enumerate(links) if _protocol(link) in ARCHIVES]
    return links, archives[-1] if archives else -1


def around(url: str) -> str | None:
    """The address of the archive that a place lies in; None where it lies in none."""
    links, last = _links(url)
    return "::".join(links[last + 1 :]) or None if last >= 0 else None


def is_http(url: str) -> bool:
    """Also behind a cache; of a place in an archive not."""
    links, archive = _links(url)
    return archive < 0 and links[-1].startswith(("http://", "https://"))


def is_missing_on_ftp(error: Exception, system, path: str) -> bool:
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
