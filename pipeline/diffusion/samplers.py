"""DDIM for VP; Euler and Heun for VE. ``denoise(x_t, t)`` estimates X0; the state is float32.

Noise comes from one generator an item, so that a clip does not depend on the batch it is in.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.diffusion.schedules import VPSchedule
from pipeline.errors import PipelineError

Denoise = Callable[[Tensor, Tensor], Tensor]


def ddim(
    denoise: Denoise,
    x: Tensor,
    timesteps: list[int],
    schedule: VPSchedule,
    eta: float,
    generators: list[torch.Generator],
    last_step: str = "x0",
) -> Tensor:
    """DDIM (Song et al. 2021) from ``timesteps[0]`` to X0, (B, …); ``eta`` 0 is deterministic, 1 is ancestral.

    ``last_step``: ``x0`` ends at the estimate of X0. The released code ends at the noise level of step 0 (``alpha_0``,
    VideoCrafter1) and, with DynamiCrafter, at the X0 scale of the last step besides (``alpha_0_scaled``).
    """
    for index, step in enumerate(timesteps):
        t = torch.full((len(x),), step, dtype=torch.int64)
        x0 = denoise(x, t).float()
        _check_finite(x0, f"step {step}")
        last = index + 1 == len(timesteps)
        if last and last_step == "x0":
            return x0
        alpha, sigma, scale = schedule.coefficients(t, x)
        following = 0 if last else timesteps[index + 1]
        alpha_next, sigma_next, scale_next = schedule.coefficients(torch.full_like(t, following), x)
        if last and last_step == "alpha_0_scaled":
            scale_next = scale
        eps = (x - alpha * scale * x0) / sigma
        # At zero terminal SNR the ratio is sigma_next / 1 times 1; rounding may push the root's argument below 0.
        ratio = (1 - (alpha / alpha_next).square()).clamp(min=0).sqrt()
        noise_std = eta * sigma_next / sigma * ratio
        x = alpha_next * scale_next * x0 + (sigma_next.square() - noise_std.square()).clamp(min=0).sqrt() * eps
        if eta > 0:
            x = x + noise_std * _noise_like(x, generators)
    return x


def euler(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """First-order steps of the probability-flow ODE along ``sigmas`` (ending in 0)."""
    for sigma, following in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        slope = _slope(denoise, x, sigma)
        x = x + (following - sigma) * slope
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Second-order steps (Karras et al. 2022, algorithm 1 without churn); the last, to 0, is first-order."""
    for sigma, following in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        slope = _slope(denoise, x, sigma)
        ahead = x + (following - sigma) * slope
        if following > 0:
            slope = (slope + _slope(denoise, ahead, following)) / 2
            ahead = x + (following - sigma) * slope
        x = ahead
    return x


def _slope(denoise: Denoise, x: Tensor, sigma: float) -> Tensor:
    x0 = denoise(x, torch.full((len(x),), sigma, dtype=torch.float32)).float()
    _check_finite(x0, f"sigma {sigma:g}")
    return (x - x0) / sigma


def _noise_like(x: Tensor, generators: list[torch.Generator]) -> Tensor:
    return torch.stack([torch.randn(x.shape[1:], generator=generator) for generator in generators]).to(x.device)


def _check_finite(x0: Tensor, where: str) -> None:
    if not torch.isfinite(x0).all():
        bad = (~torch.isfinite(x0).flatten(1).all(1)).nonzero().flatten().tolist()
        raise PipelineError(f"sampling: the estimate of X0 is not finite at {where} for items {bad} of the batch")
