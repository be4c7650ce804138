"""What a run row does to the network: its start, its steps, its guidance, seen at the network's own door."""

import math

import pytest
import torch

from pipeline.backbones.registry import FAMILIES
from pipeline.errors import PipelineError

SHAPE = (4, 4, 8, 8)
VP_FAMILIES = ["videocrafter1", "dynamicrafter"]


def noise(sample: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(sample))


@pytest.mark.parametrize("family", VP_FAMILIES)
@pytest.mark.parametrize(("start", "steps"), [(1.0, 5), (0.96, 5), (0.92, 50), (0.8, 7)])
@pytest.mark.parametrize("spacing", ["trailing", "uniform"])
def test_vp_network_first_sees_m_minus_1_and_as_many_steps_as_asked(
    make_generator, generate, calls, monkeypatch, family, start, steps, spacing
):
    generator, seen = make_generator(family, start=start, steps=steps, spacing=spacing), calls(family)
    monkeypatch.setattr(generator.backbone.unet, "forward", lambda x, *others: x[:, :4] * 0.1)
    generate(generator, samples=(0,))
    times = [int(time) for _, time, _ in seen]
    assert times[0] == round(start * 1000) - 1
    assert len(times) == steps == len(set(times)) and times == sorted(times, reverse=True) and times[-1] >= 0


@pytest.mark.parametrize("kind", ["euler", "heun"])
def test_ve_network_first_sees_sigma_m_and_as_many_steps_as_asked(make_generator, generate, calls, kind):
    """Heun asks twice a step, but for the last."""
    generator, seen = make_generator("svd", start=100.0, kind=kind, steps=5), calls("svd")
    generate(generator, samples=(0,))
    assert len(seen) == (5 if kind == "euler" else 9)
    assert seen[0][1].item() == pytest.approx(0.25 * math.log(100.0))
    assert min(time.item() for _, time, _ in seen) == pytest.approx(0.25 * math.log(0.002), rel=1e-4)


def vp_coefficients(family: str, step: int) -> tuple[float, float]:
    """alpha and sigma by the papers' formulas, in float64."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    roots = torch.cumprod(1 - betas, 0).sqrt()
    if family == "dynamicrafter":
        roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    alpha = roots[step].item()
    return alpha, math.sqrt(1 - alpha**2)


@pytest.mark.parametrize("family", VP_FAMILIES)
@pytest.mark.parametrize(("init", "form"), [("standard", "kl"), ("analytic", "kl"), ("analytic", "without_scale")])
def test_vp_start(make_generator, generate, calls, moments, family, init, form):
    """Standard: the noise itself. Analytic: Proposition 1 at step M - 1, with or without s_t = 0.7."""
    seen = calls(family)
    given = moments if init == "analytic" else (None, None)
    generate(make_generator(family, 0.92, init, given, switches={"analytic": form}))
    alpha, sigma = vp_coefficients(family, 919)
    signal = alpha * (0.7 if form == "kl" else 1.0)
    std = math.sqrt(signal**2 * moments[1] + sigma**2)
    for sample in range(2):
        expected = noise(sample) if init == "standard" else signal * moments[0] + std * noise(sample)
        found = seen[0][0][sample]
        assert torch.equal(found, expected) if init == "standard" else torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("init", "switch"),
    [
        ("standard", {"standard_std": "sigma"}),
        ("standard", {"standard_std": "sqrt_sigma2_plus_1"}),
        ("analytic", {"analytic": "kl"}),
        ("analytic", {"analytic": "swapped"}),
    ],
)
def test_ve_start(make_generator, generate, calls, moments, init, switch):
    """Oddity 13: the released code swaps mean and variance, noise * sqrt(sigma^2 + E) + v."""
    seen, sigma = calls("svd"), 2.0
    given = moments if init == "analytic" else (None, None)
    generate(make_generator("svd", sigma, init, given, switches=switch))
    for sample in range(2):
        if switch == {"analytic": "swapped"}:
            expected = moments[1] + (sigma**2 + moments[0]).sqrt() * noise(sample)
        elif init == "analytic":
            expected = moments[0] + math.sqrt(sigma**2 + moments[1]) * noise(sample)
        else:
            expected = (sigma if switch["standard_std"] == "sigma" else math.sqrt(sigma**2 + 1)) * noise(sample)
        assert torch.allclose(seen[0][0][sample] * math.sqrt(sigma**2 + 1), expected, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_start_and_moments_change_the_clip(make_generator, generate, moments, family):
    """A start that is recorded but not used would leave the latents as they are."""
    mean, variance = moments
    starts = (50.0, 10.0) if family == "svd" else (0.96, 0.8)
    analytic = [moments, (mean, 9 * variance), (mean + 0.5, variance)]
    rows = [make_generator(family, start) for start in starts]
    rows += [make_generator(family, starts[1], "analytic", values) for values in analytic]
    made = [generate(row) for row in rows]
    for index, one in enumerate(made):
        assert one.shape == (2, *SHAPE) and one.dtype == torch.float32
        assert all((one - two).abs().max() > 1e-3 for two in made[:index])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clip_does_not_depend_on_its_batch_or_order(make_generator, generate, family):
    generator = make_generator(family, **({} if family == "svd" else {"eta": 1.0}))
    together = generate(generator, (0, 1, 2, 3))
    for samples in ((2,), (3, 2, 1), (2, 5)):
        again = generate(generator, samples)[samples.index(2)]
        assert (again - together[2]).abs().max() < 1e-4 * together[2].abs().max()
    assert (together[0] - together[1]).abs().max() > 1e-2


@pytest.mark.parametrize("family", VP_FAMILIES)
def test_eta_draws_each_item_s_noise_from_its_own_generator(make_generator, generate, family):
    still, noisy = generate(make_generator(family)), generate(make_generator(family, eta=1.0))
    assert (still - noisy).abs().max() > 1e-2
    assert torch.equal(noisy, generate(make_generator(family, eta=1.0)))


@pytest.mark.parametrize("family", VP_FAMILIES)
def test_guidance_adds_the_unconditional_branch(make_generator, generate, calls, given, make_backbone, family):
    seen = calls(family)
    plain, guided = generate(make_generator(family)), generate(make_generator(family, guidance=7.5))
    rescaled = generate(make_generator(family, guidance=7.5, guidance_rescale=0.7))
    assert (plain - guided).abs().max() > 1e-2 and (rescaled - guided).abs().max() > 1e-2
    assert [len(x) for x, _, _ in seen] == [2] * 4 + [4] * 8
    x, time, conditions = seen[4]
    assert torch.equal(x[:2], x[2:]) and torch.equal(time[:2], time[2:])
    usual = given(family)
    assert torch.equal(conditions.text[:2], usual.text) and not conditions.text[2:].any()
    assert torch.equal(conditions.image_context[:2], usual.image_context)
    grey = make_backbone(family).image_context(torch.zeros(1, 9, 40))
    assert torch.allclose(conditions.image_context[2:], grey.expand(2, -1, -1), atol=1e-6)
    if family == "dynamicrafter":
        assert torch.equal(conditions.image_latent, usual.image_latent.repeat(2, 1, 1, 1)), "the same latent in both"


def test_svd_guidance_rises_over_the_frames(make_generator, generate):
    """In one Euler step to 0 the result is linear in the scale: 1 for the first frame, 3 for the last."""
    one, three, ramp = (
        generate(make_generator("svd", steps=1, guidance_min=low, guidance_max=high))
        for low, high in ((1, 1), (3, 3), (1, 3))
    )
    assert (one - three).abs().max() > 1e-3
    for frame, part in enumerate((0, 1 / 3, 2 / 3, 1)):
        expected = one[:, :, frame] + part * (three - one)[:, :, frame]
        assert torch.allclose(ramp[:, :, frame], expected, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_description_names_times_start_and_every_setting(make_generator, moments, family):
    told = make_generator(family, None, "analytic", moments).describe()
    common = {"sampler", "times", "initial_std", "precision"}
    if family == "svd":
        assert set(told) == common | {"guidance_min", "guidance_max", "standard_std", "analytic", "told_fps"}
        assert (told["times"][0], len(told["times"])) == (50.0, 5) and told["times"][-1] == 0
        assert told["initial_std"] == pytest.approx(math.sqrt(2500.3))
    else:
        own = {"start"} if family == "videocrafter1" else {"image_latent"}
        sampler = {"guidance", "guidance_rescale", "eta", "spacing"}
        assert set(told) == common | sampler | {"rounding", "last_step", "analytic"} | own
        assert (told["times"][0], len(told["times"])) == (959, 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_estimate_that_is_not_finite_stops_with_the_step_and_the_item(make_generator, generate, monkeypatch, family):
    generator = make_generator(family)
    forward = generator.backbone.forward

    def broken(x, time, conditions):
        output = forward(x, time, conditions)
        output[1, 0, 0, 0, 0] = torch.nan
        return output

    monkeypatch.setattr(generator.backbone, "forward", broken)
    with pytest.raises(PipelineError, match=r"not finite at (step 959|sigma 50) for items \[1\] of the batch"):
        generate(generator)


@pytest.mark.parametrize(("family", "scale"), [("videocrafter1", 1.0), ("dynamicrafter", None)])
def test_released_last_step_ends_at_the_noise_level_of_step_0(make_generator, generate, calls, family, scale):
    """Its latent keeps the noise of step 0 and, with DynamiCrafter, the factor s_t of the last step."""
    generator, seen = make_generator(family), calls(family)
    x0 = generate(generator)
    x_last, t = seen[-1][0], int(seen[-1][1][0])
    schedule = generator.schedule
    alpha, sigma, factor = (values[t].item() for values in (schedule.alphas, schedule.sigmas, schedule.scales))
    eps = (x_last - alpha * factor * x0) / sigma
    kept = factor if scale is None else scale
    expected = schedule.alphas[0] * kept * x0 + schedule.sigmas[0] * eps
    last_step = "alpha_0_scaled" if scale is None else "alpha_0"
    found = generate(make_generator(family, switches={"last_step": last_step}))
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found, x0, atol=1e-4)


def test_released_videocrafter1_does_not_hear_of_m_in_its_steps(make_generator, generate, calls, moments):
    """Oddity list, DDIM: M reaches only Analytic-Init, and the state enters at step 981 whatever M is."""
    seen = calls("videocrafter1")
    released = make_generator(
        "videocrafter1", 0.92, "analytic", moments, steps=50, spacing="uniform", source="released"
    )
    paper = make_generator("videocrafter1", 0.92, "analytic", moments, steps=50, spacing="uniform")
    assert (released.times[0], len(released.times)) == (981, 50) and paper.times[0] == 919
    alpha, sigma = vp_coefficients("videocrafter1", 919)
    generate(make_generator("videocrafter1", 0.92, "analytic", moments, steps=2, spacing="uniform", source="released"))
    expected = alpha * moments[0] + math.sqrt(alpha**2 * moments[1] + sigma**2) * noise(0)
    assert torch.allclose(seen[0][0][0], expected, atol=1e-5)


def test_released_time_steps_are_refused_where_the_released_code_stops(make_generator):
    with pytest.raises(PipelineError, match="51 steps for M = 920"):
        make_generator("dynamicrafter", 0.92, steps=50, source="released")
    assert (
        len(make_generator("dynamicrafter", 0.92, steps=50, source="released", switches={"rounding": "exact"}).times)
        == 50
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_released_way_gives_other_clips_and_is_recorded(make_generator, generate, family):
    paper, released = make_generator(family), make_generator(family, source="released")
    assert (generate(paper) - generate(released)).abs().max() > 1e-6  # SVD's start alone: its rate is told beforehand
    assert paper.describe() != released.describe()
