"""Where sampling starts: the standard start, or Analytic-Init (Proposition 1).

Proposition 1 minimises KL(q_M || N(mu, s^2 I)): mu = alpha_M E[X0], s^2 = alpha_M^2 tr Cov(X0) / d + sigma_M^2. Where
X0 is multiplied by s_t, q_M has mean alpha_M s_M E and variance alpha_M^2 s_M^2 v + sigma_M^2. What the released code
has instead are the switches ``analytic`` and ``standard_std`` of pipeline/diffusion/source.py.
"""

import math

import torch
from torch import Tensor

from pipeline.diffusion.schedules import VPSchedule
from pipeline.errors import PipelineError


def vp_initial(
    schedule: VPSchedule, first_step: int, kind: str, analytic: str, mean: Tensor | None, variance: float | None
) -> tuple[Tensor | float, float]:
    """Mean ((C, F, h, w) or 0) and standard deviation of X at step ``first_step`` = M - 1."""
    if kind == "standard":
        return 0.0, 1.0
    alpha, sigma = schedule.alphas[first_step].item(), schedule.sigmas[first_step].item()
    signal = alpha * (schedule.scales[first_step].item() if analytic == "kl" else 1.0)
    return signal * mean, math.sqrt(signal**2 * variance + sigma**2)


def ve_initial(
    sigma: float, kind: str, standard_std: str, analytic: str, mean: Tensor | None, variance: float | None
) -> tuple[Tensor | float, Tensor | float]:
    """Mean and standard deviation of X at noise level ``sigma``.

    Raises PipelineError for ``swapped`` moments where the swap makes a variance negative.
    """
    if kind == "standard":
        return 0.0, sigma if standard_std == "sigma" else math.sqrt(sigma**2 + 1)
    if analytic == "swapped":
        if (mean < -(sigma**2)).any():
            raise PipelineError(f"sampling: swapped moments have no root at sigma {sigma}; use switch analytic: kl")
        return variance, (mean + sigma**2).sqrt()
    return mean, math.sqrt(variance + sigma**2)


def draw_initial(
    mean: Tensor | float, std: Tensor | float, shape: tuple[int, ...], generators: list[torch.Generator]
) -> Tensor:
    """Starting latents (B, *shape), float32, each item from its own generator."""
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    return mean + std * noise
