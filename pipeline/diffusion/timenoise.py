"""Noise on the conditional image in training. Source: paper section 4.2, equation (6)."""

import math
from typing import Any

import torch
from torch import Tensor


def center(fraction: Tensor, exponent: float, mu_max: float = 1.0) -> Tensor:
    """mu(t) = 2 t^a - 1: -1 at t = 0, 1 at t = 1; times ``mu_max``, which is 4 in the released VideoCrafter1."""
    return mu_max * (2 * fraction**exponent - 1)


def density(level: Tensor, fraction: Tensor, beta_max: float, exponent: float, mu_max: float = 1.0) -> Tensor:
    """p_t(beta) of equation (6) for 0 < beta < beta_max."""
    logit = (level / (beta_max - level)).log()
    normal = (-0.5 * (logit - center(fraction, exponent, mu_max)).square()).exp() / math.sqrt(2 * math.pi)
    return normal * beta_max / (level * (beta_max - level))


class ConditionNoise:
    """The naive fine-tune, and what all kinds share: the condition stays clean.

    ``tokens``: whether CLIP tokens are noised as well as latents. ``told``: whether the network is told the level,
    which is then one for all conditions of a clip.
    """

    told = False

    def __init__(self, tokens: bool = True):
        self.tokens = tokens

    def draw_level(self, fraction: Tensor, noise_std: Tensor, generator: torch.Generator) -> Tensor:
        """One level beta_s for each time, (B,).

        ``fraction`` (B,): TimeNoise's t in [0, 1]; ``noise_std`` (B,): sigma_t of the noise in X_t.
        """
        return torch.zeros_like(fraction)

    def apply(self, y: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """y + beta_s eps, ``noise`` shaped to broadcast with ``y`` (B, …); ``level`` (B,)."""
        return y + _like(level, y) * noise.to(y)


class TimeNoise(ConditionNoise):
    """beta_s = beta_max * sigmoid(z), z ~ N(mu(t), 1)."""

    def __init__(self, beta_max: float, exponent: float, tokens: bool = True, mu_max: float = 1.0):
        super().__init__(tokens)
        self.beta_max, self.exponent, self.mu_max = beta_max, exponent, mu_max

    def draw_level(self, fraction: Tensor, noise_std: Tensor, generator: torch.Generator) -> Tensor:
        return self.level(fraction, torch.randn(fraction.shape, generator=generator))

    def level(self, fraction: Tensor, normal: Tensor) -> Tensor:
        """The level that a normal draw makes, in (0, beta_max)."""
        return self.beta_max * torch.sigmoid(center(fraction, self.exponent, self.mu_max) + normal)


class LinearMix(TimeNoise):
    """(1 - beta_s) y + beta_s eps with TimeNoise's levels and beta_max at most 1. Source: paper appendix D."""

    def apply(self, y: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        return torch.lerp(y, noise.to(y).expand_as(y), _like(level, y))


class ConstantNoise(ConditionNoise):
    """The same level at every time."""

    def __init__(self, level: float, tokens: bool = True):
        super().__init__(tokens)
        self.level = level

    def draw_level(self, fraction: Tensor, noise_std: Tensor, generator: torch.Generator) -> Tensor:
        return torch.full_like(fraction, self.level)


class SameAsX(ConditionNoise):
    """As much noise as there is in X_t: sigma_t."""

    def draw_level(self, fraction: Tensor, noise_std: Tensor, generator: torch.Generator) -> Tensor:
        return noise_std.to(fraction)


class ConditioningAugmentation(ConditionNoise):
    """A uniform level in [0, level_max), told to the network; sampling tells 0. Source: CDM (Ho et al. 2022, 4.2)."""

    told = True

    def __init__(self, level_max: float, tokens: bool = True):
        super().__init__(tokens)
        self.level_max = level_max

    def draw_level(self, fraction: Tensor, noise_std: Tensor, generator: torch.Generator) -> Tensor:
        return self.level_max * torch.rand(fraction.shape, generator=generator)


KINDS = {
    "none": ConditionNoise,
    "timenoise": TimeNoise,
    "linear_mix": LinearMix,
    "constant": ConstantNoise,
    "same_as_x": SameAsX,
    "cdm": ConditioningAugmentation,
}


def make_condition_noise(settings: Any, mu_max: float = 1.0) -> ConditionNoise:
    """From a ``condition_noise`` group of params.yaml (mapping or object)."""
    values = dict(settings) if not hasattr(settings, "model_dump") else settings.model_dump()
    kind = KINDS[values.pop("kind")]
    return kind(**values, mu_max=mu_max) if issubclass(kind, TimeNoise) else kind(**values)


def _like(level: Tensor, y: Tensor) -> Tensor:
    return level.to(y).reshape(-1, *[1] * (y.dim() - 1))
