"""Start times and samplers: exact counts, known Gaussians, independence of the batch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.diffusion import guidance, samplers
from pipeline.diffusion.analytic_init import draw_initial, ve_initial, vp_initial
from pipeline.diffusion.schedules import VESchedule, VPSchedule
from pipeline.diffusion.start_times import first_step, ve_sigmas, vp_timesteps
from pipeline.errors import PipelineError

MEAN, STD = 0.6, 0.5  # a Gaussian data distribution whose perfect denoiser is known


def vp(prediction="v", zero=True, rescale=True):
    return VPSchedule(1000, 0.00085, 0.012, zero, rescale, prediction)


VE = VESchedule(0.002, 80.0, 1.0, 1.0, 1.6, 7.0, "equal_snr")


@given(steps=st.integers(1, 60), start=st.integers(60, 1000), spacing=st.sampled_from(["trailing", "uniform"]))
def test_vp_timesteps_are_exactly_as_many_as_asked_and_begin_at_m_minus_1(steps, start, spacing):
    times = vp_timesteps(start - 1, steps, spacing)
    assert len(times) == len(set(times)) == steps
    assert times == sorted(times, reverse=True)
    assert times[0] == start - 1 and times[-1] >= 0


def test_920_trailing_gives_50_steps():
    """The released code gives a 51st at t = -1 (facts, item 6)."""
    times = vp_timesteps(first_step(0.92, 1000), 50, "trailing")
    assert (len(times), times[0], min(times) >= 0) == (50, 919, True)


def test_trailing_1000_is_the_official_grid():
    assert vp_timesteps(999, 50, "trailing") == list(range(999, 0, -20))


def test_too_many_steps_are_refused():
    with pytest.raises(PipelineError, match="20 steps do not fit"):
        vp_timesteps(9, 20, "trailing")


@given(steps=st.integers(2, 40), start=st.floats(1.0, 700.0))
def test_ve_sigmas_begin_at_sigma_m_and_end_at_zero(steps, start):
    sigmas = ve_sigmas(start, 0.002, 7.0, steps)
    assert len(sigmas) == steps + 1
    assert sigmas[0].item() == start and sigmas[-1].item() == 0
    assert (sigmas.diff() < 0).all()


def vp_denoiser(schedule):
    """E[X0 | x_t] of N(MEAN, STD^2) data."""

    def denoise(x, t):
        alpha, sigma, scale = schedule.coefficients(t, x)
        signal = alpha * scale
        gain = signal * STD**2 / (signal**2 * STD**2 + sigma**2)
        return MEAN + gain * (x - signal * MEAN)

    return denoise


def ve_denoiser(x, t):
    sigma = t.reshape(-1, 1).to(x)
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


def generators(count, seed=0):
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("schedule", [vp(), vp("eps", zero=False)], ids=["zero-snr", "plain"])
def test_ddim_reaches_a_known_gaussian_from_t(schedule, eta):
    sources = generators(1)
    x = torch.randn(1, 40000, generator=sources[0])
    made = samplers.ddim(vp_denoiser(schedule), x, vp_timesteps(999, 250, "trailing"), schedule, eta, sources)
    assert (made.mean().item(), made.std().item()) == pytest.approx((MEAN, STD), abs=0.04)


@pytest.mark.parametrize("sampler", [samplers.euler, samplers.heun])
def test_ve_samplers_reach_a_known_gaussian(sampler):
    x = 80 * torch.randn(1, 40000, generator=torch.Generator().manual_seed(0))
    made = sampler(ve_denoiser, x, ve_sigmas(80.0, 0.002, 7.0, 100))
    assert (made.mean().item(), made.std().item()) == pytest.approx((MEAN, STD), abs=0.03)


def test_heun_is_more_exact_than_euler():
    x = 80 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    exact = MEAN + STD * (x - MEAN) / math.sqrt(STD**2 + 80**2)
    errors = [
        (s(ve_denoiser, x, ve_sigmas(80.0, 0.002, 7.0, 40)) - exact).abs().mean()
        for s in (samplers.euler, samplers.heun)
    ]
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("m", [0.9, 0.6])
def test_analytic_init_beats_the_standard_start_on_a_known_gaussian(m):
    """From M < T the standard start is too wide and centred at 0; the analytic one is q_M."""
    schedule = vp()
    first = first_step(m, 1000)
    errors = {}
    for kind in ("standard", "analytic"):
        mean, std = vp_initial(schedule, first, kind, "kl", torch.full((40000,), MEAN), STD**2)
        x = draw_initial(mean, std, (40000,), generators(1))
        made = samplers.ddim(
            vp_denoiser(schedule), x, vp_timesteps(first, 100, "trailing"), schedule, 0.0, generators(1)
        )
        errors[kind] = abs(made.mean().item() - MEAN) + abs(made.std().item() - STD)
    assert errors["analytic"] < 0.03 < errors["standard"]


@pytest.mark.parametrize("rescale", [True, False])
def test_kl_form_is_the_law_of_x_m(rescale):
    """Monte-Carlo: mean alpha_M s_M E, variance alpha_M^2 s_M^2 v + sigma_M^2; not so the released form."""
    schedule, first = vp(rescale=rescale), 599
    generator = torch.Generator().manual_seed(0)
    x0 = MEAN + STD * torch.randn(400000, 1, generator=generator)
    x_m = schedule.add_noise(x0, torch.randn(400000, 1, generator=generator), torch.full((400000,), first))
    mean, std = vp_initial(schedule, first, "analytic", "kl", torch.tensor(MEAN), STD**2)
    assert (x_m.mean().item(), x_m.std().item()) == pytest.approx((mean.item(), std), abs=0.006)
    released, _ = vp_initial(schedule, first, "analytic", "without_scale", torch.tensor(MEAN), STD**2)
    assert (abs(released.item() - mean.item()) > 0.01) == rescale


def test_ve_starts():
    mean, variance = torch.tensor([0.5]), 0.3
    assert ve_initial(20.0, "standard", "sigma", "kl", None, None) == (0.0, 20.0)
    assert ve_initial(20.0, "standard", "sqrt_sigma2_plus_1", "kl", None, None)[1] == pytest.approx(math.sqrt(401))
    assert ve_initial(20.0, "analytic", "sigma", "kl", mean, variance) == (mean, pytest.approx(math.sqrt(400.3)))


def test_a_clip_does_not_depend_on_its_batch():
    schedule, times = vp(), vp_timesteps(999, 10, "trailing")
    alone = samplers.ddim(
        vp_denoiser(schedule), draw_initial(0.0, 1.0, (50,), generators(1, 7)), times, schedule, 1.0, generators(1, 7)
    )
    start = draw_initial(0.0, 1.0, (50,), generators(4, 5))
    together = samplers.ddim(vp_denoiser(schedule), start, times, schedule, 1.0, generators(4, 5))
    assert torch.equal(alone[0], together[2])


def test_estimates_that_are_not_finite_are_named():
    def broken(x, t):
        return torch.where(torch.arange(len(x))[:, None] == 1, torch.nan, x)

    with pytest.raises(PipelineError, match=r"not finite at step 999 for items \[1\]"):
        samplers.ddim(broken, torch.zeros(3, 2), [999, 500], vp(), 0.0, generators(3))
    with pytest.raises(PipelineError, match="not finite at sigma 80"):
        samplers.euler(broken, torch.zeros(3, 2), ve_sigmas(80.0, 0.002, 7.0, 3))


def test_guidance():
    cond, uncond = torch.tensor([[2.0, 4.0]]), torch.tensor([[1.0, 1.0]])
    assert guidance.guide(cond, uncond, 1.0).equal(cond)
    assert guidance.guide(cond, uncond, 3.0).tolist() == [[4.0, 10.0]]
    assert guidance.frame_ramp(1.0, 3.0, 3).flatten().tolist() == [1.0, 2.0, 3.0]
    guided = 5 * cond
    assert guidance.rescale(guided, cond, 1.0).std().item() == pytest.approx(cond.std().item())
    assert guidance.rescale(guided, cond, 0.0).equal(guided)
