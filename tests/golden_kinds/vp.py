"""DDIM runs, schedules, Analytic-Init, TimeNoise and training targets of VideoCrafter1 and DynamiCrafter."""

import re
from unittest import mock

import torch

from pipeline.diffusion import analytic_init, guidance, samplers
from pipeline.diffusion.schedules import VPSchedule, scaled_linear_alphas_cumprod
from pipeline.diffusion.start_times import first_step, vp_timesteps
from pipeline.diffusion.timenoise import TimeNoise, center
from tests.golden_kinds.core import ELSEWHERE, Case, Comparison, Document, draw

EXPONENT = 5.0
TIMENOISE = {"dc": (1.0, 100.0), "vc": (4.0, 100.0)}  # mu_max and beta_m of the released code


def vp(document: Document) -> list[Case]:
    """By what is in the file: runs of a sampler, and tensors by their names."""
    content, tensors = document.content, document.tensors
    if "t_in_sampling_order" not in next(iter(content.get("runs", {}).values()), {}):
        return []
    found = [Case(document.name, run, lambda run=run: _run(document, run)) for run in content["runs"]]
    for spacing, grids in content.get("timesteps_50_steps_ascending", {}).items():
        compare = lambda spacing=spacing, grids=grids: _grids(spacing, grids)  # noqa: E731
        found.append(Case(document.name, f"timesteps {spacing}", compare))
    patterns = {
        r"buffers\.(?:(\w+)\.)?(sqrt_alphas_cumprod|sqrt_one_minus_alphas_cumprod|alphas_cumprod|scale_arr)": _buffer,
        r"analytic\.(?:(\w+)\.)?M(\d+)\.x_M": _analytic,
        r"timenoise\.(dc|vc)\.(mu|beta_s)": _timenoise,
        r"rescale_noise_cfg_([\d.]+)": _rescale,
        r"train\.(x_noisy|v_target|x0_from_v)": _training,
    }
    for key in sorted(tensors):
        for pattern, compare in patterns.items():
            if match := re.fullmatch(pattern, key):
                call = lambda compare=compare, key=key, match=match: compare(document, key, *match.groups())  # noqa: E731
                found.append(Case(document.name, key, call))
    return found


def schedule_of_run(document: Document, run: str) -> VPSchedule:
    """By the run's own tables where it has them: zero terminal SNR (which goes with v), and the factor s_t of X0."""
    tensors, times = document.tensors, document.content["runs"][run]["t_in_sampling_order"]
    scaled = any(key.startswith(f"{run}.ddim_scale_arr") for key in tensors)
    v = "_v_" in run
    alphas = tensors.get(f"{run}.ddim_alphas")
    zero = v
    if alphas is not None:
        largest = torch.tensor(max(times))
        off = {zsnr: abs(scaled_linear_alphas_cumprod(1000, 0.00085, 0.012, zsnr)[largest] - alphas.flatten().min())
               for zsnr in (True, False)}  # fmt: skip
        zero = bool(off[True] < off[False])
    return VPSchedule(1000, 0.00085, 0.012, zero, scaled, "v" if v or zero else "eps")


def schedule_of(name: str | None, v: bool) -> VPSchedule:
    """Plain: without the factor s_t of X0. Zero terminal SNR goes with v."""
    return VPSchedule(1000, 0.00085, 0.012, v, "plain" not in (name or ""), "v" if v else "eps")


class Trivial:
    """The reference denoiser; keeps the states that it is shown and the estimates that it gives."""

    def __init__(self, schedule: VPSchedule, settings: dict, shape):
        self.schedule, self.settings, self.states, self.estimates = schedule, settings, [], []
        self.y = draw("ddim.y", shape)

    def __call__(self, x, t):
        self.states.append(x)
        conditional, unconditional = 0.10 * x + 0.03 * self.y, 0.08 * x
        scale = self.settings["unconditional_guidance_scale"]
        if "cfg_img" in self.settings:
            image = 0.09 * x + 0.02 * self.y
            output = unconditional + self.settings["cfg_img"] * (image - unconditional) + scale * (conditional - image)
        else:
            output = guidance.guide(conditional, unconditional, scale)
        if self.settings.get("guidance_rescale"):
            output = guidance.rescale(output, conditional, self.settings["guidance_rescale"])
        self.estimates.append(self.schedule.x0_from_output(output, x, t))
        return self.estimates[-1]


def _run(document: Document, run: str) -> list[Comparison]:
    entry, tensors = document.content["runs"][run], document.tensors
    settings, shape = entry["settings"], document.content["denoiser"]["shape"]
    # The three-branch sampler and VideoCrafter1's (which has no rescaled guidance) do not hear of M.
    deaf = "cfg_img" in settings or "guidance_rescale" not in settings
    start = 1000 if deaf else settings["ddpm_from"]
    spacing = "trailing" if settings.get("timestep_spacing") == "uniform_trailing" else "uniform"
    times = vp_timesteps(start - 1, settings["S"], spacing, "released")
    expected_times = entry["t_in_sampling_order"]
    schedule = schedule_of_run(document, run)
    scales = tensors.get(f"{run}.ddim_scale_arr_prev")
    scaled = scales is not None and abs(scales.flatten()[0].item() - 1) > 1e-6
    denoise = Trivial(schedule, settings, shape)
    noises = (draw(f"ddim.noise.{step}", shape) for step in range(len(times)))
    with mock.patch.object(samplers, "_noise_like", lambda x, generators: next(noises)):
        last_step = "alpha_0_scaled" if scaled else "alpha_0"
        final = samplers.ddim(
            denoise, draw("ddim.x_T", shape), times, schedule, settings["eta"], [], last_step, "released"
        )
    states = torch.stack([*denoise.states[1:], final])
    found = [
        Comparison(torch.tensor(times), torch.tensor(expected_times), 0.0),
        Comparison(states, tensors[f"{run}.x"], ELSEWHERE),
    ]
    if f"{run}.pred_x0" in tensors and scales is None:  # elsewhere that file has the X0 scale in it
        found.append(Comparison(torch.stack(denoise.estimates), tensors[f"{run}.pred_x0"], ELSEWHERE))
    return found


def _grids(spacing: str, grids: dict[str, list[int]]) -> list[Comparison]:
    """Those that run; M = 920 trailing ends below 0 and is refused (tests/test_oddities.py)."""
    spacing = "trailing" if "trailing" in spacing else "uniform"
    return [
        Comparison(torch.tensor(vp_timesteps(int(start) - 1, 50, spacing, "released")[::-1]), torch.tensor(steps), 0.0)
        for start, steps in grids.items()
        if steps[0] >= 0
    ]


def _buffer(document: Document, key: str, name: str | None, buffer: str) -> list[Comparison]:
    schedule = schedule_of(name, v="zsnr" in (name or ""))
    values = {
        "sqrt_alphas_cumprod": schedule.alphas,
        "sqrt_one_minus_alphas_cumprod": schedule.sigmas,
        "alphas_cumprod": schedule.alphas.square(),
        "scale_arr": schedule.scales,
    }
    return [Comparison(values[buffer], document.tensors[key][: schedule.num_steps], ELSEWHERE)]


def _analytic(document: Document, key: str, name: str | None, start: str) -> list[Comparison]:
    expected = document.tensors[key]
    schedule = schedule_of(name, v="zsnr" in (name or ""))
    mean = 0.1 * draw("analytic.Expectation_X0", expected.shape)[0]
    first = first_step(int(start) / 1000, 1000)
    mu, std = analytic_init.vp_initial(schedule, first, "analytic", "without_scale", mean, 0.9)
    return [Comparison(mu + std * draw("analytic.eps", expected.shape), expected, ELSEWHERE)]


def _timenoise(document: Document, key: str, family: str, what: str) -> list[Comparison]:
    mu_max, beta_max = TIMENOISE[family]
    fraction = document.tensors["timenoise.t"] / 1000
    if what == "mu":
        found = center(fraction, EXPONENT, mu_max)
    else:
        found = TimeNoise(beta_max, EXPONENT, mu_max).level(fraction, draw("timenoise.normal", fraction.shape))
    return [Comparison(found, document.tensors[key], ELSEWHERE)]


def _rescale(document: Document, key: str, factor: str) -> list[Comparison]:
    expected = document.tensors[key]
    guided, text = 3 * draw("rescale.cfg", expected.shape), draw("rescale.text", expected.shape)
    return [Comparison(guidance.rescale(guided, text, float(factor)), expected, ELSEWHERE)]


def _training(document: Document, key: str, what: str) -> list[Comparison]:
    tensors = document.tensors
    schedule, t = schedule_of(None, v="train.v_target" in tensors), tensors["train.t"]
    x0, noise = (draw(f"train.{name}", tensors["train.x_noisy"].shape) for name in ("x0", "noise"))
    x_t = schedule.add_noise(x0, noise, t)
    if what == "x_noisy":
        return [Comparison(x_t, tensors[key], ELSEWHERE)]
    alpha, sigma, scale = schedule.coefficients(t, x0)
    if what == "v_target":  # the loss is zero where the output is the target
        loss = schedule.training_loss(tensors[key], x0, noise, x_t, t)
        return [Comparison(1 + loss, torch.ones(len(t)), ELSEWHERE)]
    return [
        Comparison(schedule.x0_from_output(alpha * noise - sigma * scale * x0, x_t, t) * scale, tensors[key], ELSEWHERE)
    ]
