"""The leakage probe (paper figures 2 and 6): its times, and what a perfect denoiser would predict of X0 from X_t alone.

A model leaks where its prediction moves far less than the perfect denoiser's, which is
the posterior mean E[X0 | X_t, y] and itself moves less than any single clip.
"""

import math

import torch
from torch import Tensor

from pipeline.diffusion.start_times import first_step

NEAR = 1.25  # sigmas within this factor count as near; for VP a tenth of T around t


def probe_time(schedule, value: float) -> float:
    """The schedule's t for a value of params.yaml: fraction of T (VP), or sigma (VE)."""
    return max(first_step(value, schedule.num_steps), 0) if schedule.kind == "vp" else value


def posterior_mean(schedule, candidates: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """E[X0 | X_t] where X0 is one of ``candidates`` (K, …), all as likely beforehand; ``x_t`` (1, …), ``t`` (1,)."""
    clean = schedule.add_noise(candidates.double(), torch.zeros_like(candidates, dtype=torch.float64), t)
    squared = (x_t.double() - clean).square().flatten(1).sum(1)
    weights = torch.softmax(-squared / (2 * schedule.noise_std(t).double().square()), 0)
    return torch.einsum("k,k...->...", weights, candidates.double())[None].float()


def training_share(schedule, value: float) -> float:
    """Share of training draws near a time: where it is next to nothing, a poor prediction is no leakage."""
    if schedule.kind == "vp":
        return min(value + 0.05, 1.0) - max(value - 0.05, 0.0)

    def below(sigma: float) -> float:
        return 0.5 * (1 + math.erf((math.log(sigma) - schedule.p_mean) / (schedule.p_std * math.sqrt(2))))

    return below(value * NEAR) - below(value / NEAR)
