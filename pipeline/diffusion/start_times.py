"""The times that a sampler visits, from a start before T. Exactly as many as asked, for every start."""

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import PipelineError


def first_step(start: float, num_steps: int) -> int:
    """M - 1 for a start given as a fraction of T."""
    return round(start * num_steps) - 1


def vp_timesteps(last: int, steps: int, spacing: str, rounding: str = "exact") -> list[int]:
    """``steps`` distinct steps falling from ``last`` = M - 1 to 0 or above.

    ``trailing``: equal strides of M / steps ending at the first step of each; ``uniform``: evenly from M - 1 to 0.
    ``rounding``: ``exact`` is integer arithmetic. ``released`` are the released code's floats: 51 trailing steps for
    M = 920, up to 53 uniform ones, which begin below M - 1. Raises PipelineError for M < steps, and for released steps
    below 0.
    """
    start = last + 1
    if start < steps:
        raise PipelineError(
            f"sampling: {steps} steps do not fit below the start M = {start}; raise start or lower steps"
        )
    if rounding == "released":
        return _released_timesteps(start, steps, spacing)
    if spacing == "trailing":
        return [(2 * start * (steps - i) + steps) // (2 * steps) - 1 for i in range(steps)]
    if steps == 1:
        return [last]
    return [(2 * last * (steps - 1 - i) + steps - 1) // (2 * (steps - 1)) for i in range(steps)]


def _released_timesteps(start: int, steps: int, spacing: str) -> list[int]:
    if spacing == "uniform":
        return [step + 1 for step in range(0, start, start // steps)][::-1]
    falling = (np.round(np.arange(start, 0, -start / steps)).astype(int) - 1).tolist()
    if falling[-1] < 0:
        raise PipelineError(
            f"sampling: the released code's trailing spacing gives {len(falling)} steps for M = {start}, the last at "
            f"{falling[-1]}, and stops with an index error; use the switch rounding: exact, or another start"
        )
    return falling


def ve_sigmas(sigma_start: float, sigma_min: float, rho: float, steps: int) -> Tensor:
    """``steps`` levels from ``sigma_start`` down to ``sigma_min`` (Karras et al. 2022, eq. 5), then 0; float64."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    high, low = sigma_start ** (1 / rho), sigma_min ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    sigmas[0] = sigma_start
    return torch.cat([sigmas, sigmas.new_zeros(1)])
