"""Several training processes on one machine: they meet through a file and talk over loopback alone.

PyTorch's rendezvous, which accelerate's launcher uses, listens on every interface and checks nobody who connects.
"""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from pipeline.engine.processes import die_with_parent

MEETING = "PIPELINE_MEETING_FILE"


@contextmanager
def started(processes: int, worker: list[str], environment: Mapping[str, str]) -> Iterator[list[subprocess.Popen]]:
    """Start ``worker`` (a module and its arguments) in so many processes; those that still run are ended afterwards."""
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    threads = max(1, len(os.sched_getaffinity(0)) // processes) if hasattr(os, "sched_getaffinity") else 1
    common = {"OMP_NUM_THREADS": str(threads), **environment}
    common |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    common |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
    command = [sys.executable, "-m", *worker]
    running: list[subprocess.Popen] = []
    with tempfile.TemporaryDirectory(prefix="meeting-") as folder:
        common[MEETING] = str(Path(folder) / "file")  # PyTorch writes it; an old one would let nobody meet
        try:
            for rank in map(str, range(processes)):
                told = {**common, "RANK": rank, "LOCAL_RANK": rank}
                running.append(subprocess.Popen(command, env=told, preexec_fn=die_with_parent))
            yield running
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()


def meet(patience: timedelta) -> None:
    """Join the other processes that `started` started; where it was not `started`, nothing happens.

    ``patience``: how long one waits for the others in an exchange.
    """
    if MEETING not in os.environ:
        return
    device = None if os.environ.get("ACCELERATE_USE_CPU") == "true" else torch.accelerator.current_accelerator()
    if device is not None:
        torch.accelerator.set_device_index(int(os.environ["LOCAL_RANK"]) % torch.accelerator.device_count())
    distributed.init_process_group(
        distributed.get_default_backend_for_device(device or "cpu"),
        init_method=Path(os.environ[MEETING]).as_uri(),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=patience,
    )
