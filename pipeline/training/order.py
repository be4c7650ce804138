"""Which clips a step sees, and which process takes which of them; the first depends on (seed, step) alone."""

from functools import lru_cache

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.seeding import torch_generator


def clip_order(seed: int, step: int, batch_size: int, count: int) -> list[int]:
    """Positions of a step's clips: every epoch is one permutation of all ``count`` clips, drawn from (seed, epoch)."""
    positions = []
    for place in range(step * batch_size, (step + 1) * batch_size):
        epoch, offset = divmod(place, count)
        positions.append(int(_permutation(seed, epoch, count)[offset]))
    return positions


@lru_cache(maxsize=2)  # a step may end one epoch and begin the next
def _permutation(seed: int, epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=torch_generator(seed, "order", epoch))


def share(batch_size: int, rank: int, processes: int) -> range:
    """Places in the batch that process ``rank`` takes: a run of neighbours, at most one longer than another's.

    Raises PipelineError where there are fewer clips than processes.
    """
    if batch_size < processes:
        raise PipelineError(
            f"optimisation.batch_size {batch_size} gives {processes} processes less than a clip each; "
            "start fewer (num_processes of runtime.accelerate_config) or raise it"
        )
    each, more = divmod(batch_size, processes)
    first = rank * each + min(rank, more)
    return range(first, first + each + (rank < more))


def passes(places: range, most: int | None) -> list[range]:
    """A process' places, cut into what goes through the network at once: at most ``most`` clips, or all for None."""
    most = most or len(places)
    return [places[first : first + most] for first in range(0, len(places), most)]
