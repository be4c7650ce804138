"""Inputs that are addresses, not paths: which they are, and which of them DVC can keep a record of."""

from pathlib import Path

# DVC's own protocols for dependencies; all but the first two need its plugin: pip install dvc-s3, dvc-gs, …
RECORDED = ("http", "https", "s3", "gs", "azure", "abfs", "oss", "ssh", "hdfs", "webhdfs", "webdav", "webdavs")


def is_url(place: str | Path) -> bool:
    """Whether it is an address for fsspec and DVC; ``file://`` is one for fsspec."""
    return "://" in str(place)


def why_not_recorded(place: str) -> str | None:
    """What to do about an address of which DVC cannot tell whether its content changed; None where it can."""
    protocol = place.partition("://")[0]
    if not is_url(place) or protocol in RECORDED:
        return None
    if protocol == "file":
        return "write the path itself, without file://"
    return (
        f"DVC cannot record {protocol}:// (it can: {', '.join(RECORDED)}), so a change of the data would go unseen; "
        f"copy or mount it, and name the folder"
    )
