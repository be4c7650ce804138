"""Where sampling starts: the standard start, or Analytic-Init (Proposition 1).

Proposition 1 minimises KL(q_M || N(mu, s^2 I)): mu = alpha_M E[X0], s^2 = alpha_M^2 tr Cov(X0) / d + sigma_M^2. Where
X0 is multiplied by s_t, q_M has mean alpha_M s_M E and variance alpha_M^2 s_M^2 v + sigma_M^2 (``kl``); the released
code leaves s_M out (``released``).
"""

import math

import torch
from torch import Tensor

from pipeline.diffusion.schedules import VESchedule, VPSchedule


def vp_initial(
    schedule: VPSchedule, first_step: int, kind: str, form: str, mean: Tensor | None, variance: float | None
) -> tuple[Tensor | float, float]:
    """Mean ((C, F, h, w) or 0) and standard deviation of X at step ``first_step`` = M - 1."""
    if kind == "standard":
        return 0.0, 1.0
    alpha, sigma = schedule.alphas[first_step].item(), schedule.sigmas[first_step].item()
    signal = alpha * (schedule.scales[first_step].item() if form == "kl" else 1.0)
    return signal * mean, math.sqrt(signal**2 * variance + sigma**2)


def ve_initial(
    schedule: VESchedule, sigma: float, kind: str, standard_std: str, mean: Tensor | None, variance: float | None
) -> tuple[Tensor | float, float]:
    """Mean and standard deviation of X at noise level ``sigma``.

    ``standard_std``: ``sigma`` (the paper) or ``sqrt_sigma2_plus_1`` (the released code), for the standard start.
    """
    if kind == "standard":
        return 0.0, sigma if standard_std == "sigma" else math.sqrt(sigma**2 + 1)
    return mean, math.sqrt(variance + sigma**2)


def draw_initial(mean: Tensor | float, std: float, shape: tuple[int, ...], generators: list[torch.Generator]) -> Tensor:
    """Starting latents (B, *shape), float32, each item from its own generator."""
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    return mean + std * noise
