"""Noise on the conditional image in training. Source: paper section 4.2, equation (6)."""

import math
from typing import Any

import torch
from torch import Tensor


def center(fraction: Tensor, exponent: float, mu_max: float = 1.0) -> Tensor:
    """mu(t) = 2 t^a - 1: -1 at t = 0, 1 at t = 1; times ``mu_max``, which is 4 in the released VideoCrafter1."""
    return mu_max * (2 * fraction**exponent - 1)


def density(level: Tensor, fraction: Tensor, beta_max: float, exponent: float) -> Tensor:
    """p_t(beta) of equation (6) for 0 < beta < beta_max."""
    logit = (level / (beta_max - level)).log()
    normal = (-0.5 * (logit - center(fraction, exponent)).square()).exp() / math.sqrt(2 * math.pi)
    return normal * beta_max / (level * (beta_max - level))


class NoConditionNoise:
    """The naive fine-tune: the condition stays clean."""

    def draw_level(self, fraction: Tensor, generator: torch.Generator) -> Tensor:
        """Zeros, (B,)."""
        return torch.zeros_like(fraction)


class TimeNoise:
    """beta_s = beta_max * sigmoid(z), z ~ N(mu(t), 1)."""

    def __init__(self, beta_max: float, exponent: float, mu_max: float = 1.0):
        self.beta_max, self.exponent, self.mu_max = beta_max, exponent, mu_max

    def draw_level(self, fraction: Tensor, generator: torch.Generator) -> Tensor:
        """One level for each entry of ``fraction`` (t in [0, 1]), (B,), in (0, beta_max)."""
        return self.level(fraction, torch.randn(fraction.shape, generator=generator))

    def level(self, fraction: Tensor, normal: Tensor) -> Tensor:
        """The level that a normal draw makes."""
        return self.beta_max * torch.sigmoid(center(fraction, self.exponent, self.mu_max) + normal)


def make_condition_noise(settings: Any, mu_max: float = 1.0) -> NoConditionNoise | TimeNoise:
    """From a ``condition_noise`` group of params.yaml (mapping or object)."""
    values = dict(settings) if not hasattr(settings, "model_dump") else settings.model_dump()
    kind = values.pop("kind")
    return NoConditionNoise() if kind == "none" else TimeNoise(**values, mu_max=mu_max)


def apply_noise(y: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """y + beta_s eps, ``noise`` shaped to broadcast with ``y`` (B, …); ``level`` (B,)."""
    return y + level.to(y).reshape(-1, *[1] * (y.dim() - 1)) * noise.to(y)
