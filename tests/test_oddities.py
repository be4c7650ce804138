"""What the released code does otherwise: one test for each oddity of docs/released_code.md that concerns us, its number
in the name. Each shows the paper's way by default, and the released way behind its switch where there is one."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline.diffusion.analytic_init import ve_initial
from pipeline.diffusion.schedules import VESchedule, VPSchedule
from pipeline.diffusion.source import SAMPLING, TRAINING, own_switches, resolve
from pipeline.diffusion.start_times import vp_timesteps
from pipeline.diffusion.timenoise import TimeNoise, make_condition_noise
from pipeline.errors import PipelineError
from pipeline.seeding import torch_generator
from pipeline.training.batches import Batch, assemble, noise_conditions
from pipeline.training.loss import TrainingStep

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = ("videocrafter1", "dynamicrafter", "svd")
COUNT, FRAMES = 4, 4
NOISE = make_condition_noise({"kind": "timenoise", "beta_max": 2.0, "exponent": 5.0})
VP = {"num_steps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "input_rescale": True}
VE = {"sigma_min": 0.002, "sigma_max": 700.0, "sigma_data": 1.0, "p_mean": -1.2, "p_std": 1.2, "rho": 7.0}


def schedule_of(family: str):
    if family == "svd":
        return VESchedule(**VE, fraction_map="sigma_over_max")
    v = family == "dynamicrafter"
    return VPSchedule(**VP, zero_terminal_snr=v, prediction="v" if v else "eps")


@pytest.fixture
def make_batch(make_backbone, recipe):
    """A training batch of clips without a file; ``dropped``: the picture of the first two is dropped."""

    def make(family: str, dropped: bool = False, replace_tokens: bool = False) -> Batch:
        tokens = (COUNT, 1, 24) if family == "svd" else (COUNT, 9, 40)
        return Batch(
            ids=list("abcd"),
            x0=recipe.draw("x0", (COUNT, 4, FRAMES, 8, 8)),
            noise=recipe.draw("noise", (COUNT, 4, FRAMES, 8, 8)),
            t=torch.tensor([0.2, 1.0, 3.0, 20.0]) if family == "svd" else torch.tensor([10, 300, 700, 990]),
            image_tokens=recipe.draw("tokens", tokens),
            conditions=make_backbone(family).conditions(
                text=recipe.draw("text", (COUNT, 12, 24)),
                image_latent=recipe.draw("latent", (COUNT, 4, 8, 8)),
                fps=torch.tensor([3.0, 6.0, 8.0, 24.0]),
            ),
            drop_text=torch.zeros(COUNT, dtype=torch.bool),
            drop_image=torch.tensor([dropped, dropped, False, False]),
            generators=[torch_generator("condition", name) for name in "abcd"],
            dropout_seeds=[0, 1, 2, 3],
            replace_tokens=torch.full((COUNT,), replace_tokens),
        )

    return make


@pytest.fixture
def noised(make_batch, make_backbone, switches):
    """Conditions before and after the noise of a training step."""

    def make(family: str, source: str = "paper", replace_tokens: bool = False, **changed):
        batch, backbone = make_batch(family, replace_tokens=replace_tokens), make_backbone(family)
        clean = batch.conditions_with(backbone.image_context(batch.image_tokens).detach())
        return clean, noise_conditions(
            backbone, clean, NOISE, batch, schedule_of(family), switches(family, source, **changed)
        )

    return make


@pytest.fixture
def shown(make_batch, make_backbone, switches, monkeypatch):
    """The conditions that the network is shown in a training step, and its loss."""

    def run(family: str, source: str = "paper", dropped: bool = False, **changed):
        backbone, seen, forward = make_backbone(family), [], make_backbone(family).forward
        monkeypatch.setattr(backbone, "forward", lambda x, t, given: seen.append(given) or forward(x, t, given))
        width = 24 if family == "svd" else 40
        null = {"text": torch.zeros(12, 24), backbone.image_input: torch.zeros(1 if family == "svd" else 9, width)}
        step = TrainingStep(backbone, schedule_of(family), NOISE, switches(family, source, **changed), null)
        loss = step(make_batch(family, dropped))
        empty = backbone.unconditional(
            seen[0], null["text"], backbone.image_context(null[backbone.image_input][None])
        )  # fmt: skip
        monkeypatch.undo()
        return seen[0], loss, empty

    return run


def test_oddity_01_mu_runs_from_minus_1_to_1_and_in_the_released_videocrafter1_from_minus_4_to_4(switches):
    for family in FAMILIES:
        for source, expected in (("paper", 1), ("released", 4 if family == "videocrafter1" else 1)):
            noise = TimeNoise(1.0, 5.0, mu_max=switches(family, source).mu_max)
            for t, sign in ((0.0, -1), (1.0, 1)):
                levels = noise.draw_level(torch.full((4001,), t), None, torch.Generator().manual_seed(0))
                assert torch.logit(levels).median().item() == pytest.approx(sign * expected, abs=0.1)


@pytest.mark.parametrize(("fraction_map", "rises"), [("sigma_over_max", False), ("equal_snr", True)])
def test_oddity_02_svd_level_rises_with_time_only_where_the_map_reaches_1(fraction_map, rises):
    schedule = VESchedule(**VE, fraction_map=fraction_map)
    sigmas = schedule.sample_time(40000, torch.Generator().manual_seed(0)).sort().values
    levels = TimeNoise(1.0, 5.0).draw_level(schedule.fraction(sigmas), None, torch.Generator().manual_seed(1))
    low, high = levels[:4000].median().item(), levels[-4000:].median().item()
    assert (high > 1.08 * low) == rises, (low, high)


def test_oddity_03_svd_noise_is_per_element_and_in_the_released_code_one_normal_a_picture(noised):
    for source, constant in (("paper", False), ("released", True)):
        clean, after = noised("svd", source)
        added = (after.image_latent - clean.image_latent).flatten(1)
        assert (added.std(1) < 1e-6).all() if constant else (added.std(1) > 0.05).all()
        assert (added.abs().mean(1) > 0).all()
        assert not torch.equal(after.noise_level, clean.noise_level), "the level enters the third id"


def test_oddity_04_dynamicrafter_s_frames_share_their_noise_and_in_the_released_code_do_not(noised):
    clean, after = noised("dynamicrafter")
    assert after.image_latent.shape == clean.image_latent.shape, "repeated over the frames by the network"
    _, released = noised("dynamicrafter", "released")
    frames = released.image_latent
    assert frames.shape == (COUNT, 4, FRAMES, 8, 8)
    assert not torch.equal(frames[:, :, 0], frames[:, :, 1])
    assert after.noise_level is None and released.noise_level is None, "it is not told the level"


def test_oddity_05_clip_tokens_have_levels_of_their_own_and_in_the_released_code_are_replaced_by_a_coin(noised):
    clean, after = noised("dynamicrafter")
    on_tokens = (after.image_context - clean.image_context).flatten(1).std(1)
    on_latent = (after.image_latent - clean.image_latent).flatten(1).std(1)
    assert (on_tokens > 0).all() and not torch.allclose(on_tokens, on_latent, rtol=0.05)
    clean, kept = noised("dynamicrafter", "released", replace_tokens=False)
    assert torch.equal(kept.image_context, clean.image_context)
    clean, gone = noised("dynamicrafter", "released", replace_tokens=True)
    assert gone.image_context.std() == pytest.approx(1, abs=0.1)
    assert not torch.allclose(gone.image_context, clean.image_context, atol=0.5)


def test_oddity_05_the_coin_falls_once_a_step_at_0_95(make_backbone):
    rows = {"mean": torch.zeros(2, 4, FRAMES, 8, 8), "logvar": torch.zeros(2, 4, FRAMES, 8, 8), "fps": torch.ones(2),
            "image_tokens": torch.zeros(2, FRAMES, 9, 40), "text": torch.zeros(2, 12, 24)}  # fmt: skip
    latents = SimpleNamespace(
        ids=["a", "b"], scaling_factor=1.0, batch=lambda positions, names: rows,
        shape=lambda name: rows[name].shape[1:],
        pictures=lambda positions, name, frames: rows[name][torch.arange(2), frames],
    )  # fmt: skip
    settings = SimpleNamespace(seed=0, dropout=SimpleNamespace(text=0, image=0, both=0))
    backbone, schedule = make_backbone("dynamicrafter"), schedule_of("dynamicrafter")
    coins = [assemble(backbone, schedule, latents, settings, step, [0, 1]).replace_tokens for step in range(300)]
    assert all(coin[0] == coin[1] for coin in coins)
    assert torch.stack(coins).float().mean().item() == pytest.approx(0.95, abs=0.04)


def test_oddity_06_videocrafter1_has_no_image_latent_and_noise_on_its_tokens(noised):
    clean, after = noised("videocrafter1")
    assert after.image_latent is None
    assert not torch.equal(after.image_context, clean.image_context)


@pytest.mark.parametrize("family", FAMILIES)
def test_oddity_07_noise_does_not_accumulate_in_the_conditions(make_batch, make_backbone, switches, family):
    batch, backbone = make_batch(family), make_backbone(family)
    given = batch.conditions_with(backbone.image_context(batch.image_tokens).detach())
    before = given.map(torch.clone)
    for _ in range(3):
        noise_conditions(backbone, given, NOISE, batch, schedule_of(family), switches(family))
    for name in backbone.noised_conditions:
        assert torch.equal(getattr(given, name), getattr(before, name))


@pytest.mark.parametrize("family", ["videocrafter1", "dynamicrafter"])
def test_oddity_08_a_dropped_picture_is_grey_to_clip_and_stays_as_latent(shown, family):
    """With the tokens as guidance shows them in sampling; the released code noises them, too."""
    for source, same in (("paper", True), ("released", False)):
        changed = {"token_noise": "timenoise"} if family == "dynamicrafter" else {}
        seen, _, empty = shown(family, source, dropped=True, **changed)
        dropped, grey = seen.image_context[:2], empty.image_context[:2]
        assert torch.allclose(dropped, grey, atol=1e-6) == same
        assert not torch.allclose(seen.image_context[2:], empty.image_context[2:], atol=1e-3)
        if family == "dynamicrafter":
            assert (seen.image_latent.flatten(1).std(1) > 0.1).all()


def test_oddity_09_svd_drops_latent_and_embedding_together_to_zeros(shown):
    """Bug that was ours: dropout came before TimeNoise, so that a dropped latent was noise, not zero."""
    seen, _, _ = shown("svd", dropped=True)
    for value in (seen.image_latent, seen.image_context):
        assert (value[:2] == 0).all()
        assert (value[2:].flatten(1).std(1) > 0.1).all()


@pytest.mark.parametrize("source", ["paper", "released"])
@pytest.mark.parametrize("family", FAMILIES)
def test_oddity_10_every_family_trains_whichever_code_is_followed(shown, family, source):
    assert torch.isfinite(shown(family, source)[1]).all()


def test_oddity_11_videocrafter1_is_told_the_frame_rate_in_training_and_by_the_released_code_never(shown):
    seen, loss, _ = shown("videocrafter1", dropped_tokens="clean")
    assert seen.fps.tolist() == [3.0, 6.0, 8.0, 24.0]
    untold, other, _ = shown("videocrafter1", told_fps="default")
    assert untold.fps is None
    assert not torch.allclose(loss, other)


def test_oddity_13_svd_s_start_has_mean_and_variance_in_their_places():
    mean = torch.full((4, 2, 3, 3), 0.5)
    for source, expected in (("paper", (0.5, 4.3**0.5)), ("released", (0.3, 4.5**0.5))):
        analytic = resolve(SAMPLING, "svd", SimpleNamespace(source=source, switches={}), "sampling").analytic
        mu, std = (torch.as_tensor(part).mean().item() for part in ve_initial(2.0, "analytic", "", analytic, mean, 0.3))
        assert (mu, std) == pytest.approx(expected)


def test_oddity_15_the_schedule_is_that_of_the_parameters_whatever_a_checkpoint_stores(make_backbone):
    """Stored buffers are compared (stage initialise) and never loaded."""
    names = set(make_backbone("dynamicrafter").state_dict())
    assert not any("alphas" in name or "betas" in name for name in names)


def test_oddity_18_the_condition_in_training_is_a_random_frame_with_dynamicrafter_alone(make_backbone):
    assert {family: make_backbone(family).conditional_frame for family in FAMILIES} == {
        "videocrafter1": "first",
        "dynamicrafter": "random",
        "svd": "first",
    }


def test_oddity_19_dropout_in_residual_blocks_is_the_config_s_and_in_temporal_convolutions_0_1(make_backbone):
    for family, rate in (("videocrafter1", 0.0), ("dynamicrafter", 0.1)):
        blocks = dict(make_backbone(family).unet.named_modules())
        residual = {part.p for name, part in blocks.items() if name.endswith("out_layers.2")}
        temporal = {part.p for name, part in blocks.items()
                    if "temopral_conv" in name and isinstance(part, torch.nn.Dropout)}  # fmt: skip
        assert (residual, temporal) == ({rate}, {0.1})


def test_oddity_20_v_prediction_never_divides_by_alpha():
    """At T, where alpha is 0, the estimate is -v / s_T: the released buffers sqrt_recip are zeros there."""
    schedule = schedule_of("dynamicrafter")
    x, v = torch.randn(1, 4, 2, 4, 4), torch.randn(1, 4, 2, 4, 4)
    found = schedule.x0_from_output(v, x, torch.tensor([999]))
    assert torch.allclose(found, -v / 0.7, atol=1e-5)


def test_released_trailing_steps_are_51_for_m_920_and_ours_50():
    assert len(vp_timesteps(919, 50, "trailing")) == 50
    with pytest.raises(PipelineError, match="51 steps for M = 920"):
        vp_timesteps(919, 50, "trailing", "released")


@pytest.mark.parametrize(("table", "kind"), [(SAMPLING, "sampling"), (TRAINING, "training")])
@pytest.mark.parametrize("family", FAMILIES)
def test_source_sets_every_switch_and_single_ones_depart_from_it(table, kind, family):
    own = own_switches(table, family)
    for index, source in enumerate(("paper", "released")):
        settings = SimpleNamespace(source=source, switches={})
        chosen = vars(resolve(table, family, settings, kind))
        assert {name: chosen[name] for name in own} == {name: choices[index] for name, choices in own.items()}
        for name, choices in own.items():
            settings = SimpleNamespace(source=source, switches={name: choices[1 - index]})
            departed = vars(resolve(table, family, settings, kind))
            assert {key for key in chosen if chosen[key] != departed[key]} == {name}
    for wrong in ({"speed": 1}, {next(iter(own)): "upwards"}):
        with pytest.raises(ValueError, match=rf"{kind}\.switches\.{next(iter(wrong))}: "):
            resolve(table, family, SimpleNamespace(source="paper", switches=wrong), kind)


def test_documentation_lists_every_switch_and_every_oddity():
    from tests.conftest import ROOT

    text = (ROOT / "docs/released_code.md").read_text()
    for table in (SAMPLING, TRAINING):
        for name, switch in table.items():
            for paper, released in switch.choices.values():
                assert f"| `{name}` |" in text and f"`{paper}`" in text and f"`{released}`" in text
    for number in range(1, 21):
        assert f"\n| {number} |" in text, f"oddity {number} has no line"
