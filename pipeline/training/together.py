"""A training's processes on one machine: several meet through a file and talk over loopback alone.

PyTorch's rendezvous, which accelerate's launcher uses, listens on every interface and checks nobody who connects.
"""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pipeline.engine.processes import die_with_parent

MEETING = "PIPELINE_MEETING_FILE"
LOOPBACK = ("lo", "lo0")  # Linux, macOS


@contextmanager
def started(processes: int, worker: list[str], environment: Mapping[str, str]) -> Iterator[list[subprocess.Popen]]:
    """Start ``worker`` (a module and its arguments) in so many processes; those that still run are ended afterwards."""
    command, dying = [sys.executable, "-m", *worker], partial(die_with_parent, os.getpid())
    running: list[subprocess.Popen] = []
    with tempfile.TemporaryDirectory(prefix="meeting-") as folder:
        try:
            for rank in range(processes):
                own = _place(rank, processes, Path(folder) / "file") if processes > 1 else {}
                running.append(subprocess.Popen(command, env={**environment, **own}, preexec_fn=dying))
            yield running
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()


def _place(rank: int, processes: int, meeting: Path) -> dict[str, str]:
    """What one of several processes is told (meeting.py). ``meeting``: a new file, which PyTorch writes."""
    loopback = next(name for _, name in socket.if_nameindex() if name in LOOPBACK)
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, MEETING: meeting}
    return {name: str(value) for name, value in own.items()} | {
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
    }
