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
    rounding: str = "exact",
) -> Tensor:
    """DDIM (Song et al. 2021) from ``timesteps[0]`` to X0, (B, …); ``eta`` 0 is deterministic, 1 is ancestral.

    ``last_step``: ``x0`` ends at the estimate of X0. The released code ends at the noise level of step 0 (``alpha_0``,
    VideoCrafter1) and, with DynamiCrafter, at the X0 scale of the last step besides (``alpha_0_scaled``).
    ``rounding``: ``released`` computes the spread of each step in float32, as the released code does.
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
        alpha_next, _, scale_next = schedule.coefficients(torch.full_like(t, following), x)
        if last and last_step == "alpha_0_scaled":
            scale_next = scale
        eps = (x - alpha * scale * x0) / sigma
        noise_std, direction_std = _spreads(schedule, step, following, eta, rounding)
        x = alpha_next * scale_next * x0 + direction_std * eps
        if eta > 0:
            x = x + noise_std * _noise_like(x, generators)
    return x


def _spreads(schedule: VPSchedule, step: int, following: int, eta: float, rounding: str) -> tuple[float, float]:
    """Standard deviations of a step's fresh noise, and of the noise that it keeps.

    From T at zero terminal SNR with eta 1 nothing is kept. Float32 arithmetic leaves 2e-4 of it, or the root of less
    than nothing, which is NaN in the released code.
    """
    now, then = schedule.alphas_cumprod[step], schedule.alphas_cumprod[following]
    if rounding == "released":
        now, then = now.float().double(), then.float().double()
    noise_std = eta * ((1 - then) / (1 - now) * (1 - now / then)).clamp(min=0).sqrt()
    if rounding == "released":
        noise_std, then = noise_std.float(), then.float()
    return noise_std.item(), (1 - then - noise_std.square()).clamp(min=0).sqrt().item()


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
