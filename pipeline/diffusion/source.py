"""Where the released code departs from the paper: each departure is a switch with a name.

``source: paper`` or ``source: released`` in params.yaml sets all of them; ``switches`` changes single ones.
docs/released_code.md lists the switches, and the oddities that are none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any


@dataclass(frozen=True)
class Switch:
    """``choices``: the paper's value and the released code's, for each family that differs."""

    about: str
    choices: Mapping[str, tuple[str | float, str | float]]

    @property
    def paper(self) -> str | float:
        return next(iter(self.choices.values()))[0]


def _both(*choices: str | float) -> dict[str, tuple]:
    return dict.fromkeys(("videocrafter1", "dynamicrafter"), choices)


SAMPLING = {
    "rounding": Switch(
        "Time steps are as many as asked and begin at M - 1 (exact). The released floats give 51 trailing steps for "
        "M = 920, and 51 to 53 uniform ones for most M, beginning below M - 1.",
        _both("exact", "released"),
    ),
    "start": Switch(
        "M moves the first time step and the initial distribution, or the latter alone while the steps begin at T.",
        {"videocrafter1": ("first_step", "initial_only")},
    ),
    "last_step": Switch(
        "DDIM ends at the estimate of X0, at the noise level of step 0, or there and at the X0 scale of the last step.",
        {"videocrafter1": ("x0", "alpha_0"), "dynamicrafter": ("x0", "alpha_0_scaled")},
    ),
    "analytic": Switch(
        "Analytic-Init minimises the KL divergence; or leaves out the factor s_M of X0; or swaps mean and variance.",
        _both("kl", "without_scale") | {"svd": ("kl", "swapped")},
    ),
    "standard_std": Switch(
        "The standard start has the standard deviation sigma_M, or the root of sigma_M^2 + 1.",
        {"svd": ("sigma", "sqrt_sigma2_plus_1")},
    ),
    "image_latent": Switch(
        "The conditional latent is the mode of the VAE's posterior, or a sample of it.",
        {"dynamicrafter": ("mode", "sample")},
    ),
    "told_fps": Switch(
        "In sampling the network is told the clip's frame rate, or one less.", {"svd": ("clip", "minus_one")}
    ),
}

TRAINING = {
    "mu_max": Switch("TimeNoise's mu(t) runs from -mu_max to mu_max.", {"videocrafter1": (1.0, 4.0)}),
    "image_noise": Switch(
        "Noise on the conditional latent is drawn for every element of the picture and repeated over the frames; for "
        "every element of every frame; or once for the whole picture.",
        {"dynamicrafter": ("element", "frame"), "svd": ("element", "picture")},
    ),
    "token_noise": Switch(
        "CLIP tokens get TimeNoise; or are replaced by normals with probability 0.95, all of a batch together.",
        {"dynamicrafter": ("timenoise", "coin")},
    ),
    "dropped_tokens": Switch(
        "Where training drops the picture, the tokens are as guidance shows them in sampling, or get TimeNoise, too.",
        _both("clean", "noised"),
    ),
    "told_fps": Switch(
        "In training the network is told the clip's frame rate, or always the default of its config.",
        {"videocrafter1": ("clip", "default")},
    ),
}


def own_switches(table: Mapping[str, Switch], family: str) -> dict[str, tuple[str | float, str | float]]:
    """The switches that a family has, each with the paper's value and the released one."""
    return {name: switch.choices[family] for name, switch in table.items() if family in switch.choices}


def resolve(table: Mapping[str, Switch], family: str, settings: Any, where: str) -> SimpleNamespace:
    """The value of every switch of ``table`` for a family; those it has not are at the paper's value.

    ``settings``: a group of params.yaml with ``source`` and ``switches``, at the path ``where``. Raises ValueError for
    a switch or a value that the family has not.
    """
    own = own_switches(table, family)
    chosen = {name: switch.paper for name, switch in table.items()}
    chosen |= {name: choices[settings.source == "released"] for name, choices in own.items()}
    for name, value in settings.switches.items():
        if name not in own:
            raise ValueError(f"{where}.switches.{name}: no switch of {family} (there are: {', '.join(own)})")
        if value not in own[name]:
            paper, released = own[name]
            raise ValueError(f"{where}.switches.{name}: {value!r} is neither {paper!r} (paper) nor {released!r}")
        chosen[name] = value
    return SimpleNamespace(**chosen)
