"""Samplers, schedules, starts and TimeNoise against reference numbers of the official code (shared/golden/lvdm).

Numbers in test names are those of the README's list of oddities.
"""

import pytest
import torch

from pipeline.diffusion import analytic_init, guidance, samplers
from pipeline.diffusion.schedules import VESchedule, VPSchedule
from pipeline.diffusion.start_times import first_step, ve_sigmas, vp_timesteps
from pipeline.errors import PipelineError

TOLERANCE = 1e-5  # relative to the largest value

DC = ("ddim_dynamicrafter", "alpha_0_scaled")
VC = ("ddim_videocrafter1", "alpha_0")
RUNS = {
    "dc_v_zsnr_dynrescale_M1000_eta0": DC,
    "dc_v_zsnr_dynrescale_M1000_eta1": DC,
    "dc_v_zsnr_dynrescale_M940_eta0": DC,
    "dc_v_zsnr_dynrescale_M940_eta1": DC,
    "dc_multicond_v_M940passed_eta0": DC,
    "dc_eps_plain_M1000_eta0": DC,
    "dc_eps_plain_M900_eta1": DC,
    "vc_eps_uniform_scale_M1000_eta0": VC,
    "vc_eps_uniform_scale_M1000_eta1": VC,
}
SIGMAS_MAX = [700, 500, 300, 100, 70, 50]


def error(found, expected) -> float:
    found, expected = torch.as_tensor(found).double(), expected.double()
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


def vp(run: str) -> VPSchedule:
    v = "_v_" in run
    return VPSchedule(1000, 0.00085, 0.012, v, input_rescale="plain" not in run, prediction="v" if v else "eps")


def ve() -> VESchedule:
    return VESchedule(0.002, 700.0, 1.0, -1.2, 1.2, 7.0, "sigma_over_max")


class Trivial:
    """The denoiser of the reference runs with guidance; keeps the states that it is shown."""

    def __init__(self, schedule, settings: dict, recipe):
        self.schedule, self.settings, self.states = schedule, settings, []
        self.y = recipe.draw("ddim.y", (1, 4, 2, 4, 4))

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
        return self.schedule.x0_from_output(output, x, t)


@pytest.mark.parametrize("run", RUNS)
def test_ddim_gives_the_released_trajectory(run, golden, recipe, monkeypatch):
    name, last_step = RUNS[run]
    meta, expected = golden(name)
    official = golden("ddim_dynamicrafter")[0]["runs"] | golden("ddim_videocrafter1")[0]["runs"]
    assert set(official) == set(RUNS), "every reference run is compared"
    settings = meta["runs"][run]["settings"]
    # the three-branch sampler and VideoCrafter1's do not hear of M
    start = 1000 if "multicond" in run or run.startswith("vc") else settings["ddpm_from"]
    spacing = "trailing" if settings.get("timestep_spacing") == "uniform_trailing" else "uniform"
    times = vp_timesteps(start - 1, settings["S"], spacing, "released")
    assert times == meta["runs"][run]["t_in_sampling_order"]
    noises = (recipe.draw(f"ddim.noise.{step}", (1, 4, 2, 4, 4)) for step in range(len(times)))
    monkeypatch.setattr(samplers, "_noise_like", lambda x, generators: next(noises))
    schedule = vp(run)
    denoise = Trivial(schedule, settings, recipe)
    start_state = recipe.draw("ddim.x_T", (1, 4, 2, 4, 4))
    final = samplers.ddim(denoise, start_state, times, schedule, settings["eta"], [], last_step)
    states = torch.stack([*denoise.states[1:], final])
    # From T at zero SNR with eta 1 nothing of eps should stay, but the released float32 leaves sqrt(6e-8) of it
    rounding = 3e-4 if run == "dc_v_zsnr_dynrescale_M1000_eta1" else TOLERANCE
    assert error(states, expected[f"{run}.x"]) <= rounding


@pytest.mark.parametrize("spacing", ["uniform", "trailing"])
def test_released_time_steps(spacing, golden):
    grids = golden("ddim_dynamicrafter")[0]["timesteps_50_steps_ascending"]
    for start, ascending in grids["uniform" if spacing == "uniform" else "uniform_trailing"].items():
        if ascending[0] < 0:
            with pytest.raises(PipelineError, match=r"51 steps for M = 920, the last at -1"):
                vp_timesteps(int(start) - 1, 50, spacing, "released")
            continue
        assert vp_timesteps(int(start) - 1, 50, spacing, "released") == ascending[::-1], start
        intended = vp_timesteps(int(start) - 1, 50, spacing)
        assert len(intended) == 50
        assert intended[0] == int(start) - 1


def test_schedule_buffers(golden):
    for name, run, prefix in (
        ("ddim_dynamicrafter", "dc_v_zsnr", "buffers.zsnr_v."),
        ("ddim_dynamicrafter", "dc_eps_plain", "buffers.plain_eps."),
        ("ddim_videocrafter1", "vc_eps", "buffers."),
    ):
        schedule, expected = vp(run), golden(name)[1]
        assert error(schedule.alphas, expected[f"{prefix}sqrt_alphas_cumprod"]) <= TOLERANCE
        assert error(schedule.sigmas, expected[f"{prefix}sqrt_one_minus_alphas_cumprod"]) <= TOLERANCE
        if f"{prefix}scale_arr" in expected:
            assert error(schedule.scales, expected[f"{prefix}scale_arr"][:1000]) <= TOLERANCE


def test_training_targets(golden, recipe):
    x0, noise = (recipe.draw(f"train.{name}", (4, 4, 2, 4, 4)) for name in ("x0", "noise"))
    for name, run in (("ddim_dynamicrafter", "dc_v_zsnr"), ("ddim_videocrafter1", "vc_eps")):
        schedule, expected = vp(run), golden(name)[1]
        t = expected["train.t"]
        x_t = schedule.add_noise(x0, noise, t)
        assert error(x_t, expected["train.x_noisy"]) <= TOLERANCE
        if "train.v_target" in expected:
            assert schedule.training_loss(expected["train.v_target"], x0, noise, x_t, t).max() < 1e-9


def test_rescaled_guidance(golden, recipe):
    guided = 3 * recipe.draw("rescale.cfg", (1, 4, 2, 4, 4))
    found = guidance.rescale(guided, recipe.draw("rescale.text", (1, 4, 2, 4, 4)), 0.7)
    assert error(found, golden("ddim_dynamicrafter")[1]["rescale_noise_cfg_0.7"]) <= TOLERANCE


@pytest.mark.parametrize("start", [1000, 940, 800])
def test_analytic_start_of_the_released_form(start, golden, recipe):
    mean = 0.1 * recipe.draw("analytic.Expectation_X0", (1, 4, 2, 4, 4))[0]
    eps = recipe.draw("analytic.eps", (1, 4, 2, 4, 4))
    for name, run, key in (
        ("ddim_dynamicrafter", "dc_v_zsnr", f"analytic.zsnr_v.M{start}.x_M"),
        ("ddim_dynamicrafter", "dc_eps_plain", f"analytic.plain_eps.M{start}.x_M"),
        ("ddim_videocrafter1", "vc_eps", f"analytic.M{start}.x_M"),
    ):
        first = first_step(start / 1000, 1000)
        mu, std = analytic_init.vp_initial(vp(run), first, "analytic", "without_scale", mean, 0.9)
        assert error(mu + std * eps, golden(name)[1][key]) <= TOLERANCE


@pytest.mark.parametrize("sigma_max", SIGMAS_MAX)
def test_euler_gives_the_released_trajectory(sigma_max, golden, recipe):
    _, expected = golden("svd_edm")
    prefix = f"euler.sigma_max_{sigma_max}."
    sigmas = ve_sigmas(float(sigma_max), 0.002, 7.0, 25)
    assert error(sigmas, expected[f"{prefix}sigmas"]) <= TOLERANCE
    schedule, states = ve(), []
    _, std = analytic_init.ve_initial(float(sigma_max), "standard", "sqrt_sigma2_plus_1", "kl", None, None)
    assert error(std, expected[f"{prefix}init_noise_sigma"]) <= TOLERANCE
    y = recipe.draw("euler.y", (1, 4, 4, 4, 4))

    def denoise(x, t):
        states.append(x)
        scaled, _ = schedule.model_input(x, t)
        return schedule.x0_from_output(0.1 * scaled + 0.03 * y, x, t)

    final = samplers.euler(denoise, std * recipe.draw("euler.x_T", (1, 4, 4, 4, 4)), sigmas)
    assert error(torch.stack([*states, final]), expected[f"{prefix}x"]) <= TOLERANCE


def test_edm_scalings(golden):
    _, expected = golden("svd_edm")
    sigma, schedule = expected["scalings.sigma"].float(), ve()
    one, nothing = torch.ones(len(sigma)), torch.zeros(len(sigma))
    c_in, c_noise = schedule.model_input(one, sigma)
    assert error(c_in, expected["scalings.c_in"]) <= TOLERANCE
    assert error(c_noise, expected["scalings.c_noise"]) <= TOLERANCE
    assert error(schedule.x0_from_output(nothing, one, sigma), expected["scalings.c_skip"]) <= TOLERANCE
    assert error(schedule.x0_from_output(one, nothing, sigma), expected["scalings.c_out"]) <= TOLERANCE


@pytest.mark.parametrize("frames", [14, 16, 25])
def test_guidance_ramp_over_frames(frames, golden):
    assert (
        error(guidance.frame_ramp(1, 3, frames).flatten(), golden("svd_edm")[1][f"guidance_ramp.frames_{frames}"]) == 0
    )


def test_oddity_13_svd_start_has_mean_and_variance_in_their_places(golden, recipe):
    """The released code swaps them; the intended start is ours."""
    _, expected = golden("svd_edm")
    # the golden's layout is frames first
    mean = 0.1 * recipe.draw("svd_analytic.Expectation_x_0", (4, 4, 4, 4))
    noise = recipe.draw("svd_analytic.noise", (1, 4, 4, 4, 4))
    sigma = expected["euler.sigma_max_100.init_noise_sigma"].item()
    for analytic, key in (("kl", "intended"), ("swapped", "as_the_code_runs")):
        mu, std = analytic_init.ve_initial(sigma, "analytic", "sigma", analytic, mean, 0.9)
        assert error(mu + std * noise, expected[f"svd_analytic.{key}"]) <= TOLERANCE
