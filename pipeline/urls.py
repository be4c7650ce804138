"""Inputs that are addresses, not paths: which they are, and which of them DVC can keep a record of. For the others a
pointer file stands (pipeline/data/pointers.py)."""

import re
from pathlib import Path

# DVC's own protocols for dependencies; all but the first two need its plugin: pip install dvc-s3, dvc-gs, …
RECORDED = ("http", "https", "s3", "gs", "azure", "abfs", "oss", "ssh", "hdfs", "webhdfs", "webdav", "webdavs")
POINTER = ".pointer.yaml"  # how the name of a pointer file ends


def is_url(place: str | Path) -> bool:
    """Whether it is an address for fsspec and DVC; ``file://`` is one for fsspec."""
    return "://" in str(place)


def is_pointer(place: str | Path) -> bool:
    """Whether it is a file that stands for data behind an address."""
    return not is_url(place) and str(place).endswith(POINTER)


def without_secret(url: str) -> str:
    """The address; raises ValueError where it holds a password or a token: files for git would keep it."""
    for part in url.split("::"):
        protocol, _, rest = part.partition("://")
        named = protocol not in ("github", "git") and re.match(r"[^/@]*:[^/@]*@", rest)  # those have owner:name@commit
        if named or re.search(r"[?&][^=&]*(token|sig|signature|secret|password|credential)=", rest, re.IGNORECASE):
            raise ValueError(
                "the address holds a password or token, which would go into a file for git; fsspec takes it from "
                "~/.config/fsspec or an FSSPEC_… variable (docs/data.md)"
            )
    return url


def why_not_recorded(place: str) -> str | None:
    """What to do about an address of which DVC cannot tell whether its content changed; None where it can."""
    protocol = place.partition("://")[0]
    if not is_url(place) or protocol in RECORDED:
        return None
    if protocol == "file":
        return "write the path itself, without file://"
    return (
        f"DVC cannot watch {protocol}:// (it can: {', '.join(RECORDED)}); `python -m pipeline pointer "
        f"inputs/NAME{POINTER} --url URL` writes a small file that stands for it: name that file here"
    )
