"""Processes and locks that a SIGKILL leaves clean."""

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import PipelineError

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere nothing happens.

    ``parent``: its id where it is known; one that is gone already is noticed, too.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def hold_folder(lock_file: Path) -> int:
    """Lock a folder for the life of this process; the kernel frees it however the process ends.

    Returns the descriptor. Raises PipelineError when another process holds it.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = ""
        with contextlib.suppress(OSError):
            owner = os.read(descriptor, 64).decode(errors="replace").strip()
        os.close(descriptor)
        raise PipelineError(
            f"another pipeline (process {owner or 'unknown'}) works in this folder; wait for it or stop it. "
            f"If that process is gone, its last jobs are still ending: try again in a moment."
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


@contextlib.contextmanager
def wait_for_lock(path: Path, log, shared: bool = False) -> Iterator[bool]:
    """Hold the lock file ``path``, waiting for whoever holds it; freed by the kernel however the process ends.

    ``shared``: beside others who hold it so. Gives whether it had to wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kind, waited = fcntl.LOCK_SH if shared else fcntl.LOCK_EX, False
    with path.open("a+") as file:  # NFS shares a lock of a file that is open for reading alone
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process does this job; waiting for it")
            fcntl.flock(file, kind)
            waited = True
        yield waited


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock file ``path`` if nobody does; gives whether it is held now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def drop_torn_rwlock(folder: Path) -> None:
    """Remove DVC's list of who reads and writes what, in its ``folder``, where a kill has left half of it.

    No command of DVC starts with such a one.
    """
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    path = folder / RWLOCK_FILE
    if _is_torn(path):
        with make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder)):
            if _is_torn(path):  # not in the middle of a write
                path.unlink()


def _is_torn(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False
