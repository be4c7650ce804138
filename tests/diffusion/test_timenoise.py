"""TimeNoise against equation (6)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from pipeline.diffusion.timenoise import NoConditionNoise, TimeNoise, apply_noise, center, density, make_condition_noise


def test_center_runs_from_minus_1_to_1():
    """The released VideoCrafter1 code runs from -4 to 4 (facts, item 5)."""
    assert center(torch.tensor([0.0, 1.0]), 5.0).tolist() == [-1.0, 1.0]
    for exponent in (0.3, 1.0, 5.0):
        assert (center(torch.linspace(0, 1, 50), exponent).diff() >= 0).all()


@given(t=st.floats(0, 1), beta_max=st.floats(0.5, 100), exponent=st.floats(0.2, 6))
@settings(max_examples=20, deadline=None)
def test_density_integrates_to_one(t, beta_max, exponent):
    total, _ = integrate.quad(
        lambda b: density(
            torch.tensor(b, dtype=torch.float64), torch.tensor(t, dtype=torch.float64), beta_max, exponent
        ).item(),
        0, beta_max, limit=200,
    )  # fmt: skip
    assert total == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("exponent", [0.3, 1.0, 5.0])
def test_levels_follow_equation_6(t, exponent):
    beta_max = 25.0
    levels = TimeNoise(beta_max, exponent).draw_level(torch.full((4000,), t), torch.Generator().manual_seed(3))
    assert levels.min() > 0 and levels.max() < beta_max
    mu = 2 * t**exponent - 1

    def cumulative(values):
        return stats.norm.cdf(torch.logit(torch.as_tensor(values) / beta_max).numpy() - mu)

    assert stats.kstest(levels.double().numpy(), cumulative).pvalue > 0.01


def test_level_rises_with_time_for_vp():
    noise, generator = TimeNoise(1.0, 5.0), torch.Generator().manual_seed(0)
    early = noise.draw_level(torch.rand(4000, generator=generator) * 0.1, generator).median()
    late = noise.draw_level(0.9 + torch.rand(4000, generator=generator) * 0.1, generator).median()
    assert late > 2 * early


def test_noise_is_drawn_for_every_element_and_scaled_by_the_level():
    """The released SVD code adds one number a clip, which shifts brightness (facts, item 1)."""
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    noised = apply_noise(torch.zeros(2, 4, 16, 16), torch.tensor([2.0, 0.0]), noise)
    assert noised[0].std().item() == pytest.approx(2, abs=0.1)
    assert noised[0].unique().numel() > 1000
    assert noised[1].abs().max() == 0


def test_none_leaves_the_condition_clean():
    none = make_condition_noise({"kind": "none"})
    assert isinstance(none, NoConditionNoise)
    assert none.draw_level(torch.rand(3), torch.Generator()).tolist() == [0, 0, 0]
    assert isinstance(make_condition_noise({"kind": "timenoise", "beta_max": 2.0, "exponent": 5.0}), TimeNoise)
