"""The perfect denoiser against exact answers, and the share of training near a time against draws."""

import pytest
import torch

from pipeline.diffusion.leakage import posterior_mean, probe_time, training_share
from pipeline.diffusion.schedules import VESchedule, VPSchedule

VP = VPSchedule(1000, 0.00085, 0.012, True, True, "v")
VE = VESchedule(0.002, 700.0, 1.0, 1.0, 1.6, 7.0, "equal_snr")
CASES = [(VP, 999), (VP, 800), (VP, 50), (VE, 200.0), (VE, 3.0), (VE, 0.05)]


@pytest.mark.parametrize("schedule, t", CASES)
def test_the_posterior_mean_is_bayes_rule(schedule, t):
    generator = torch.Generator().manual_seed(0)
    candidates = torch.randn(5, 2, 3, 2, 2, generator=generator)
    t = torch.tensor([t])
    x_t = schedule.add_noise(candidates[:1], torch.randn(candidates[:1].shape, generator=generator), t)
    weights = torch.tensor([
        torch.distributions.Normal(schedule.add_noise(x0[None], torch.zeros(1, *x0.shape), t), schedule.noise_std(t))
        .log_prob(x_t).double().sum()
        for x0 in candidates
    ]).softmax(0)  # fmt: skip
    expected = (weights.reshape(-1, 1, 1, 1, 1) * candidates.double()).sum(0, keepdim=True)
    assert torch.allclose(posterior_mean(schedule, candidates, x_t, t).double(), expected, atol=1e-4)


def test_without_noise_it_is_the_clip_and_without_signal_the_mean_of_all():
    candidates = torch.randn(9, 4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    low, high = torch.tensor([0.01]), torch.tensor([999])
    assert torch.allclose(posterior_mean(VE, candidates, candidates[:1], low), candidates[:1])
    noise = torch.randn(1, 4, 3, 2, 2)
    assert torch.allclose(posterior_mean(VP, candidates, noise, high)[0], candidates.mean(0), atol=1e-6)


def test_it_is_the_best_estimate_of_all():
    """No other estimator has a smaller mean squared error; here against each candidate and their mean."""
    generator, t = torch.Generator().manual_seed(2), torch.tensor([2.0])
    candidates = torch.randn(6, 1, 2, 2, 2, generator=generator)
    errors = torch.zeros(3)
    for draw in range(300):
        truth = candidates[draw % 6]
        x_t = VE.add_noise(truth[None], torch.randn(1, 1, 2, 2, 2, generator=generator), t)
        nearest = candidates[(candidates - x_t).flatten(1).norm(dim=1).argmin()]
        for place, estimate in enumerate((posterior_mean(VE, candidates, x_t, t)[0], nearest, candidates.mean(0))):
            errors[place] += (estimate - truth).square().mean()
    assert errors[0] < errors[1:].min()


@pytest.mark.parametrize("sigma", [0.5, 3.0, 50.0, 200.0])
def test_the_share_of_training_near_a_sigma(sigma):
    draws = VE.sample_time(200_000, torch.Generator().manual_seed(0))
    near = ((draws > sigma / 1.25) & (draws < sigma * 1.25)).float().mean().item()
    assert training_share(VE, sigma) == pytest.approx(near, abs=0.003)


def test_vp_is_trained_everywhere_and_its_times_are_steps():
    assert training_share(VP, 0.5) == pytest.approx(0.1)
    assert training_share(VP, 1.0) == pytest.approx(0.05)
    assert (probe_time(VP, 1.0), probe_time(VP, 0.5), probe_time(VE, 18.0)) == (999, 499, 18.0)
