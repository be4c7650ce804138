"""Inputs that are addresses, not paths: which they are, and which of them DVC can keep a record of. For the others a
pointer file stands (pipeline/data/pointers.py)."""

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


def why_not_recorded(place: str) -> str | None:
    """What to do about an address of which DVC cannot tell whether its content changed; None where it can."""
    protocol = place.partition("://")[0]
    if not is_url(place) or protocol in RECORDED:
        return None
    if protocol == "file":
        return "write the path itself, without file://"
    return (
        f"DVC cannot watch {protocol}:// (it can: {', '.join(RECORDED)}); `python -m pipeline pointer "
        f"inputs/NAME{POINTER} --url {place}` writes a small file that stands for it: name that file here"
    )
