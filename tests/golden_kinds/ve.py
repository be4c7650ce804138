"""Stable Video Diffusion's sigmas, Euler runs, scalings, guidance ramp, Analytic-Init and TimeNoise."""

import re

import torch

from pipeline.diffusion import analytic_init, guidance, samplers
from pipeline.diffusion.schedules import VESchedule
from pipeline.diffusion.start_times import ve_sigmas
from pipeline.diffusion.timenoise import TimeNoise, center
from tests.golden_kinds.core import ELSEWHERE, Case, Comparison, Document, draw

SCHEDULE = VESchedule(0.002, 700.0, 1.0, -1.2, 1.2, 7.0, "sigma_over_max")
MU_MAX, BETA_MAX, EXPONENT, SIGMA_MAX = 1.0, 15.0, 5.0, 700.0  # TimeNoise of the released code


def ve(document: Document) -> list[Case]:
    """By the names of the tensors."""
    patterns = {
        r"euler\.sigma_max_([\d.]+)\.x": _euler,
        r"scalings\.(c_in|c_noise|c_out|c_skip)": _scaling,
        r"guidance_ramp\.frames_(\d+)": _ramp,
        r"svd_analytic\.(intended|as_the_code_runs|baseline_no_file)": _analytic,
        r"timenoise\.svd\.(mu|beta_s)": _timenoise,
    }
    found = []
    for key in sorted(document.tensors):
        for pattern, compare in patterns.items():
            if match := re.fullmatch(pattern, key):
                call = lambda compare=compare, key=key, match=match: compare(document, key, *match.groups())  # noqa: E731
                found.append(Case(document.name, key, call))
    return found


def _euler(document: Document, key: str, sigma_max: str) -> list[Comparison]:
    tensors, prefix = document.tensors, key.removesuffix("x")
    shape = tensors[key].shape[1:]
    sigma_min = document.content.get("common_settings", {}).get("sigma_min", SCHEDULE.sigma_min)
    sigmas = ve_sigmas(float(sigma_max), sigma_min, SCHEDULE.rho, len(tensors[f"{prefix}sigmas"]) - 1)
    _, std = analytic_init.ve_initial(float(sigma_max), "standard", "sqrt_sigma2_plus_1", "kl", None, None)
    y, states, estimates = draw("euler.y", shape), [], []

    def denoise(x, t):
        states.append(x)
        scaled, _ = SCHEDULE.model_input(x, t)
        estimates.append(SCHEDULE.x0_from_output(0.1 * scaled + 0.03 * y, x, t))
        return estimates[-1]

    final = samplers.euler(denoise, std * draw("euler.x_T", shape), sigmas)
    return [
        Comparison(sigmas, tensors[f"{prefix}sigmas"], ELSEWHERE),
        Comparison(torch.tensor(std), tensors[f"{prefix}init_noise_sigma"], ELSEWHERE),
        Comparison(0.25 * sigmas[:-1].log(), tensors[f"{prefix}timesteps"], ELSEWHERE),
        Comparison(torch.stack(estimates), tensors[f"{prefix}pred_x0"], ELSEWHERE),
        Comparison(torch.stack([*states, final]), tensors[key], ELSEWHERE),
    ]


def _scaling(document: Document, key: str, name: str) -> list[Comparison]:
    sigma = document.tensors["scalings.sigma"].float()
    one, nothing = torch.ones(len(sigma)), torch.zeros(len(sigma))
    found = {
        "c_in": SCHEDULE.model_input(one, sigma)[0],
        "c_noise": SCHEDULE.model_input(one, sigma)[1],
        "c_skip": SCHEDULE.x0_from_output(nothing, one, sigma),
        "c_out": SCHEDULE.x0_from_output(one, nothing, sigma),
    }
    return [Comparison(found[name], document.tensors[key], ELSEWHERE)]


def _ramp(document: Document, key: str, frames: str) -> list[Comparison]:
    return [Comparison(guidance.frame_ramp(1, 3, int(frames)).flatten(), document.tensors[key], ELSEWHERE)]


def _analytic(document: Document, key: str, which: str) -> list[Comparison]:
    expected = document.tensors[key]
    sigma = document.content["analytic_init"]["init_noise_sigma"]
    mean, noise = (
        0.1 * draw("svd_analytic.Expectation_x_0", expected.shape[1:]),
        draw("svd_analytic.noise", expected.shape),
    )
    kind = "standard" if which == "baseline_no_file" else "analytic"
    form = "swapped" if which == "as_the_code_runs" else "kl"
    mu, std = analytic_init.ve_initial(sigma, kind, "sigma", form, mean, 0.9)
    return [Comparison(mu + std * noise, expected, ELSEWHERE)]


def _timenoise(document: Document, key: str, what: str) -> list[Comparison]:
    """The released t = sigma / 700 is not clamped; ours is (pipeline/diffusion/schedules.py), so t is given here."""
    fraction = document.tensors["timenoise.svd.sigma"] / SIGMA_MAX
    if what == "mu":
        found = center(fraction, EXPONENT, MU_MAX)
    else:
        found = TimeNoise(BETA_MAX, EXPONENT, MU_MAX).level(fraction, draw("timenoise.normal", fraction.shape))
    return [Comparison(found, document.tensors[key], ELSEWHERE)]
