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
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import check_cuda_p2p_ib_support
from torch import distributed

from pipeline.engine.processes import die_with_parent
from pipeline.errors import PipelineError

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
    """What one of several processes is told. ``meeting``: PyTorch writes it; with an old one nobody would meet."""
    loopback = next(name for _, name in socket.if_nameindex() if name in LOOPBACK)
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, MEETING: meeting}
    return {name: str(value) for name, value in own.items()} | {
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
    }


def meet(patience: timedelta) -> None:
    """Join the other processes that `started` started; alone, nothing happens.

    ``patience``: how long one waits for the others in an exchange. Raises PipelineError where GPUs are missing.
    """
    if MEETING not in os.environ:
        return
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = "cpu" if os.environ.get("ACCELERATE_USE_CPU") == "true" else _choose_device(rank, processes)
    store = distributed.FileStore(os.environ[MEETING], processes)
    store.set_timeout(patience)
    backend = distributed.get_default_backend_for_device(device)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=processes, timeout=patience)


def _choose_device(rank: int, processes: int) -> torch.device:
    """A device of its own for each process."""
    count = torch.accelerator.device_count()
    if count < processes:
        raise PipelineError(
            f"runtime.accelerate_config asks for {processes} processes, but {count} GPUs are here; "
            "ask for fewer (num_processes), or for the CPU (use_cpu)"
        )
    torch.accelerator.set_device_index(rank)
    device = torch.accelerator.current_accelerator()
    if device.type == "cuda" and not check_cuda_p2p_ib_support():  # an old driver on cards without peer access
        os.environ.update(NCCL_P2P_DISABLE="1", NCCL_IB_DISABLE="1")
    return device
