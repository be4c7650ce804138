"""How the processes that together.py started meet: each calls `meet` first."""

import os
from datetime import timedelta

import torch
from accelerate.utils import check_cuda_p2p_ib_support
from torch import distributed

from pipeline.errors import PipelineError
from pipeline.training.together import MEETING


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
