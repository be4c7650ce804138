"""The one error that a user is meant to read: what, where, what was expected, what to do next."""

import contextlib
import errno
import re
from collections.abc import Iterator

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})  # a disk that is full, a quota, a disk gone read-only


class PipelineError(Exception):
    """A problem with input, parameters or state that the user can mend; shown without a traceback."""


class DataChanged(PipelineError):
    """Data that a job reads is not what its inputs say: what it has made may be of both."""


def one_line(error: Exception) -> str:
    """What an error of a library says, in one line without number or path."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def lacks_space(error: Exception) -> bool:
    """Whether an error tells of a disk without room; that of a library in Rust has its number in its text alone."""
    number = getattr(error, "errno", None)
    told = re.search(r"\(os error (\d+)\)", str(error))
    return (int(told[1]) if told else number) in NO_SPACE


@contextlib.contextmanager
def full_disk_explained(what: str) -> Iterator[None]:
    """Raise PipelineError, which says ``what`` found no room, where a disk is full."""
    try:
        yield
    except Exception as error:
        if not lacks_space(error):
            raise
        raise PipelineError(
            f"{what}: no space left on the disk, or it is read-only ({one_line(error)}); mend that and run again "
            f"(nothing half-written was kept)"
        ) from error
