"""Noise on the condition: TimeNoise against equation (6), and the kinds it is compared with."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.integrate import cumulative_trapezoid

from pipeline import presets
from pipeline.diffusion.level_profile import level_profile
from pipeline.diffusion.schedules import VESchedule, VPSchedule, make_schedule
from pipeline.diffusion.timenoise import ConditionNoise, TimeNoise, center, density, make_condition_noise
from pipeline.params.file import load_params

ROOT = Path(__file__).resolve().parents[2]


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
    levels = TimeNoise(beta_max, exponent).draw_level(torch.full((4000,), t), None, torch.Generator().manual_seed(3))
    assert levels.min() > 0 and levels.max() < beta_max
    mu = 2 * t**exponent - 1

    def cumulative(values):
        return stats.norm.cdf(torch.logit(torch.as_tensor(values) / beta_max).numpy() - mu)

    assert stats.kstest(levels.double().numpy(), cumulative).pvalue > 0.01


def test_noise_is_drawn_for_every_element_and_scaled_by_the_level():
    """The released SVD code adds one number a clip, which shifts brightness (facts, item 1)."""
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    noised = ConditionNoise().apply(torch.zeros(2, 4, 16, 16), torch.tensor([2.0, 0.0]), noise)
    assert noised[0].std().item() == pytest.approx(2, abs=0.1)
    assert noised[0].unique().numel() > 1000
    assert noised[1].abs().max() == 0


def test_none_leaves_the_condition_clean():
    none = make_condition_noise({"kind": "none"})
    assert type(none) is ConditionNoise
    assert none.draw_level(torch.rand(3), None, torch.Generator()).tolist() == [0, 0, 0]
    assert isinstance(make_condition_noise({"kind": "timenoise", "beta_max": 2.0, "exponent": 5.0}), TimeNoise)


@pytest.fixture(scope="module")
def preset_params(tmp_path_factory):
    def load(name: str):
        file = tmp_path_factory.mktemp(name) / "params.yaml"
        presets.write(presets.preset(ROOT / "presets", name), file)
        return load_params(file)

    return load


def ve(**changes) -> VESchedule:
    settings = {"sigma_min": 0.002, "sigma_max": 700.0, "sigma_data": 1.0, "p_mean": 1.0, "p_std": 1.6, "rho": 7.0}
    return VESchedule(**{**settings, "fraction_map": "equal_snr", **changes})


def levels_at_the_ends(schedule, noise: ConditionNoise, draws: int = 40_000) -> tuple[float, float]:
    """Median levels in the lowest and in the highest tenth of the training draws of t."""
    generator = torch.Generator().manual_seed(0)
    t = schedule.sample_time(draws, generator)
    level = noise.draw_level(schedule.fraction(t), schedule.noise_std(t), generator)
    order = t.argsort()
    return level[order[: draws // 10]].median().item(), level[order[-draws // 10 :]].median().item()


@pytest.mark.parametrize("exponent", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("kind", ["timenoise", "linear_mix"])
def test_levels_in_training_follow_equation_6_at_the_times_that_are_drawn(kind, exponent):
    """Each level, put through the distribution function of its own t, is uniform."""
    schedule, generator = VPSchedule(1000, 0.00085, 0.012, True, True, "v"), torch.Generator().manual_seed(5)
    noise = make_condition_noise({"kind": kind, "beta_max": 0.8, "exponent": exponent, "tokens": True})
    t = schedule.sample_time(4000, generator)
    level = noise.draw_level(schedule.fraction(t), schedule.noise_std(t), generator)
    quantile = stats.norm.cdf((torch.logit(level / 0.8) - center(schedule.fraction(t), exponent)).numpy())
    assert stats.kstest(quantile, "uniform").pvalue > 0.01


@pytest.mark.parametrize("preset", ["demo", "paper"])
@pytest.mark.parametrize("family", ["videocrafter1", "dynamicrafter"])
def test_over_vp_training_the_level_at_least_doubles(preset_params, preset, family):
    params = preset_params(preset)
    noise = make_condition_noise(params.trainings[f"{family}-timenoise"].condition_noise)
    early, late = levels_at_the_ends(make_schedule(params.backbones[family].process), noise)
    print(f"{preset} {family}: median level {early:.3g} -> {late:.3g}")
    assert late >= 2 * early


@pytest.mark.parametrize("fraction_map", ["sigma_over_max", "equal_snr", "training_quantile"])
@pytest.mark.parametrize("p_mean, p_std", [(1.0, 1.6), (-1.2, 1.2)], ids=["demo", "paper"])
def test_over_ve_training_the_rise_depends_on_the_map(fraction_map, p_mean, p_std):
    """The literal map is flat where sigmas stay far below sigma_max (facts, item 2)."""
    schedule = ve(p_mean=p_mean, p_std=p_std, fraction_map=fraction_map)
    early, late = levels_at_the_ends(schedule, TimeNoise(1.0, 5.0))
    print(f"P_mean {p_mean}, {fraction_map}: median level {early:.3g} -> {late:.3g} ({late / early:.2f} times)")
    rises = {"sigma_over_max": (0.9, 1.1), "training_quantile": (2.0, 2.8)}
    rises["equal_snr"] = (1.5, 2.8) if p_mean == 1.0 else (0.9, 1.3)
    assert rises[fraction_map][0] < late / early < rises[fraction_map][1]


@pytest.mark.parametrize("preset, fraction_map", [("demo", "equal_snr"), ("paper", "sigma_over_max")])
def test_the_presets_name_their_map_and_its_rise_is_printed(preset_params, preset, fraction_map):
    params = preset_params(preset)
    process, noise = params.backbones["svd"].process, TimeNoise(1.0, 5.0)
    assert process.fraction_map == fraction_map
    for name in ("sigma_over_max", "equal_snr", "training_quantile"):
        schedule = make_schedule(process.model_copy(update={"fraction_map": name}))
        profile, expected = level_profile(schedule, noise), levels_at_the_ends(schedule, noise)
        print(f"{preset} SVD, {name}: median level {profile.lowest:.3g} -> {profile.highest:.3g} ({profile.rise:.2f})")
        assert (profile.lowest, profile.highest) == pytest.approx(expected, rel=0.02)
    own = level_profile(make_schedule(process), noise)
    assert own.rise > 2 if preset == "demo" else own.rise < 1.1


def test_the_density_drawn_is_that_of_the_levels_drawn():
    """Kolmogorov-Smirnov of drawn levels against the integral of the density of the figure."""
    noise, fraction = TimeNoise(0.8, 5.0), torch.full((5000,), 0.9)
    drawn = noise.draw_level(fraction, fraction, torch.Generator().manual_seed(3)).numpy()
    grid = torch.linspace(1e-4, 0.8 - 1e-4, 4000)
    cumulative = cumulative_trapezoid(density(grid, torch.tensor(0.9), 0.8, 5.0).numpy(), grid.numpy(), initial=0)
    assert cumulative[-1] == pytest.approx(1, abs=0.01)
    assert stats.kstest(drawn, lambda x: np.interp(x, grid.numpy(), cumulative)).pvalue > 0.01


def test_the_quantile_map_is_uniform_over_training():
    schedule = ve(fraction_map="training_quantile")
    sigma = schedule.sample_time(4000, torch.Generator().manual_seed(1))
    assert stats.kstest(schedule.fraction(sigma).numpy(), "uniform").pvalue > 0.01


def test_constant_noise_has_one_level():
    noise = make_condition_noise({"kind": "constant", "level": 0.7, "tokens": False})
    assert noise.draw_level(torch.rand(3), None, torch.Generator()).tolist() == pytest.approx([0.7] * 3)
    assert not noise.tokens


def test_same_as_x_has_the_noise_of_x_t():
    noise = make_condition_noise({"kind": "same_as_x", "tokens": True})
    schedules = {VPSchedule(1000, 0.00085, 0.012, False, True, "v"): torch.tensor([0, 500, 999])}
    schedules[ve()] = torch.tensor([0.01, 1.0, 700.0])
    for schedule, t in schedules.items():
        level = noise.draw_level(schedule.fraction(t), schedule.noise_std(t), torch.Generator())
        x_t = schedule.add_noise(torch.zeros(3, 4, 2, 64, 64), torch.randn(3, 4, 2, 64, 64), t)
        assert torch.allclose(x_t.flatten(1).std(1), level, rtol=0.03)


def test_conditioning_augmentation_is_uniform_and_told():
    noise = make_condition_noise({"kind": "cdm", "level_max": 2.0, "tokens": True})
    level = noise.draw_level(torch.rand(4000), None, torch.Generator().manual_seed(0))
    assert noise.told and stats.kstest(level.numpy() / 2, "uniform").pvalue > 0.01


def test_linear_mix_goes_from_the_picture_to_noise():
    y, noise = torch.full((3, 1, 64, 64), 4.0), torch.randn(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    mix = make_condition_noise({"kind": "linear_mix", "beta_max": 1.0, "exponent": 5.0, "tokens": True})
    mixed = mix.apply(y, torch.tensor([0.0, 0.5, 1.0]), noise)
    assert torch.equal(mixed[0], y[0]) and torch.allclose(mixed[2], noise[2])
    assert torch.allclose(mixed[1], 2 + noise[1] / 2)
