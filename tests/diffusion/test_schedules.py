"""Forward processes, targets and preconditioning."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.diffusion.schedules import VESchedule, VPSchedule, make_schedule
from pipeline.errors import PipelineError

SD = {"num_steps": 1000, "beta_start": 0.00085, "beta_end": 0.012}


def vp(prediction="v", zero=True, rescale=True) -> VPSchedule:
    return VPSchedule(**SD, zero_terminal_snr=zero, input_rescale=rescale, prediction=prediction)


def ve(**changes) -> VESchedule:
    values = {"sigma_min": 0.002, "sigma_max": 700.0, "sigma_data": 1.0, "p_mean": 1.0, "p_std": 1.6, "rho": 7.0}
    return VESchedule(**{**values, "fraction_map": "equal_snr", **changes})


def test_vp_is_variance_preserving_and_ends_in_pure_noise():
    for schedule in (vp(), vp("eps", zero=False)):
        assert torch.allclose(schedule.alphas**2 + schedule.sigmas**2, torch.ones(1000), atol=1e-6)
        assert (schedule.alphas.diff() < 0).all()
    assert vp().alphas[-1] == 0
    assert 0 < vp("eps", zero=False).alphas[-1] < 0.1


def test_input_rescale_falls_from_1_to_0_7_over_400_steps():
    scales = vp().scales
    assert scales[0] == 1
    assert scales[399:].unique().tolist() == pytest.approx([0.7])
    assert vp(rescale=False).scales.unique().tolist() == [1.0]


def test_eps_at_zero_terminal_snr_is_refused():
    with pytest.raises(PipelineError, match="eps-prediction is undefined at zero terminal SNR"):
        vp("eps", zero=True)


@pytest.mark.parametrize("schedule", [vp(), vp("eps", zero=False), ve()], ids=["v", "eps", "edm"])
@given(seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_perfect_output_gives_x0_back_and_no_loss(schedule, seed):
    generator = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, 3, 4, 4, generator=generator), torch.randn(2, 3, 4, 4, generator=generator)
    t = schedule.sample_time(2, generator)
    if schedule.kind == "vp":
        t = t.clamp(max=900)
        alpha, sigma, scale = schedule.coefficients(t, x0)
        output = noise if schedule.prediction == "eps" else alpha * noise - sigma * scale * x0
    else:
        sigma = t.reshape(-1, 1, 1, 1)
        x_t = schedule.add_noise(x0, noise, t)
        output = (x_t / (sigma**2 + 1) - x0) * (sigma**2 + 1).sqrt() / sigma
    x_t = schedule.add_noise(x0, noise, t)
    assert torch.allclose(schedule.x0_from_output(output, x_t, t), x0, atol=2e-3)
    assert schedule.training_loss(output, x0, noise, x_t, t).max() < 1e-4
    wrong = schedule.training_loss(output + 1, x0, noise, x_t, t)
    assert wrong.shape == (2,) and (wrong > 0.5).all()


def test_edm_loss_is_the_mean_square_of_the_network_output_error():
    schedule, generator = ve(), torch.Generator().manual_seed(0)
    x0, noise, t = (
        torch.randn(4, 8, generator=generator),
        torch.randn(4, 8, generator=generator),
        torch.tensor([0.01, 1.0, 30.0, 600.0]),
    )
    x_t = schedule.add_noise(x0, noise, t)
    sigma = t[:, None]
    target = (x_t / (sigma**2 + 1) - x0) * (sigma**2 + 1).sqrt() / sigma
    output = target + 0.3
    assert schedule.training_loss(output, x0, noise, x_t, t).tolist() == pytest.approx([0.09] * 4, rel=0.05)


def test_ve_input_has_unit_variance_and_time_is_a_quarter_of_ln_sigma():
    schedule, generator = ve(), torch.Generator().manual_seed(0)
    x0 = torch.randn(1, 20000, generator=generator)
    for sigma in (0.1, 5.0, 300.0):
        t = torch.tensor([sigma])
        scaled, time = schedule.model_input(schedule.add_noise(x0, torch.randn(1, 20000, generator=generator), t), t)
        assert scaled.std().item() == pytest.approx(1, abs=0.03)
        assert time.item() == pytest.approx(0.25 * math.log(sigma))


def test_training_times_follow_their_law():
    generator = torch.Generator().manual_seed(0)
    steps = vp().sample_time(20000, generator)
    assert steps.min() >= 0 and steps.max() <= 999 and steps.float().mean().item() == pytest.approx(499.5, abs=8)
    logs = ve().sample_time(20000, generator).log()
    assert (logs.mean().item(), logs.std().item()) == pytest.approx((1.0, 1.6), abs=0.05)


def test_fraction_for_timenoise():
    assert vp().fraction(torch.tensor([0, 500])).tolist() == [0.0, 0.5]
    literal = ve(fraction_map="sigma_over_max")
    assert literal.fraction(torch.tensor([7.0, 700.0, 900.0])).tolist() == pytest.approx([0.01, 1.0, 1.0])
    equal = ve()
    plain = vp("eps", zero=False)
    for step in (50, 400, 900):
        sigma = plain.sigmas[step] / plain.alphas[step]
        assert equal.fraction(sigma[None]).item() == pytest.approx(step / 1000, abs=0.002)
    assert equal.fraction(torch.tensor([1e4])).item() == 1.0


def test_make_schedule_reads_a_group():
    assert (
        make_schedule({"kind": "vp", **SD, "zero_terminal_snr": False, "input_rescale": True, "prediction": "eps"}).kind
        == "vp"
    )
