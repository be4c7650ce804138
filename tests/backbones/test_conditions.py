"""What each family is told: its output follows every condition that it takes, sample by sample, and no other."""

from dataclasses import replace

import pytest
import torch

from pipeline.backbones.interface import Conditions
from pipeline.backbones.registry import FAMILIES, build
from pipeline.errors import PipelineError

TAKEN = {
    "videocrafter1": {"text", "image_context", "fps"},
    "dynamicrafter": {"text", "image_context", "image_latent", "fps"},
    "svd": {"image_context", "image_latent", "fps", "motion_bucket", "noise_level"},
}
INPUTS = sorted(set().union(*TAKEN.values()))
FRAMES, SIZE = 4, 8


def given(backbone, recipe, **changed) -> Conditions:
    """Conditions of two samples by the family's own methods, from all that any takes; ``changed``: other inputs."""
    embedding = backbone.image_input == "image_embedding"
    inputs = {
        "text": recipe.draw("text", (2, 12, 24)),
        "image_latent": recipe.draw("latent", (2, 4, SIZE, SIZE)),
        "fps": torch.tensor([3.0, 8.0]),
        "image_context": recipe.draw("embedding", (2, 1, 24)) if embedding else recipe.draw("tokens", (2, 9, 40)),
    }
    direct = {name: changed.pop(name) for name in ("motion_bucket", "noise_level") if name in changed}
    inputs |= changed
    context = backbone.image_context(inputs.pop("image_context"))
    return replace(backbone.conditions(**inputs), image_context=context, **direct)


def run(backbone, recipe, conditions: Conditions, time=(1.5, 0.4)) -> torch.Tensor:
    with torch.inference_mode():
        return backbone(recipe.draw("x", (2, 4, FRAMES, SIZE, SIZE)), torch.tensor(time), conditions)


def other(name: str, backbone, recipe) -> torch.Tensor:
    """Another value of an input, for the first sample only."""
    if name in ("fps", "motion_bucket", "noise_level"):
        usual = {
            "fps": torch.tensor([3.0, 8.0]),
            "motion_bucket": torch.full((2,), 20.0),
            "noise_level": torch.full((2,), 0.02),
        }[name]
        return usual + torch.tensor([{"fps": 9.0, "motion_bucket": 100.0, "noise_level": 5.0}[name], 0.0])
    shapes = {"text": (12, 24), "image_latent": (4, SIZE, SIZE), "image_context": (9, 40)}
    shape = (1, 24) if name == "image_context" and backbone.image_input == "image_embedding" else shapes[name]
    first = {"text": "text", "image_latent": "latent", "image_context": "embedding" if shape == (1, 24) else "tokens"}[
        name
    ]
    value = recipe.draw(first, (2, *shape))
    value[0] = recipe.draw("another", shape)
    return value


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", [*INPUTS, "model_time"])
def test_output_follows_what_the_family_takes_and_nothing_else(make_backbone, recipe, family, name):
    backbone = make_backbone(family)
    before = run(backbone, recipe, given(backbone, recipe))
    if name == "model_time":
        after = run(backbone, recipe, given(backbone, recipe), time=(0.1, 0.4))
    else:
        after = run(backbone, recipe, given(backbone, recipe, **{name: other(name, backbone, recipe)}))
    change = (after - before).abs().amax((1, 2, 3, 4)) / before.abs().max()
    if name == "model_time" or name in TAKEN[family]:
        assert change[0] > 2e-3, f"{family} does not hear its {name}"
        assert change[1] < 1e-5, "the other sample must not hear it"
    else:
        assert torch.equal(after, before), f"{family} has no path for {name}"


@pytest.mark.parametrize("family", FAMILIES)
def test_conditions_hold_the_family_s_own_and_leave_the_others_out(make_backbone, recipe, family):
    conditions = given(make_backbone(family), recipe)
    assert {name for name in INPUTS if getattr(conditions, name) is not None} == TAKEN[family]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["fps", "model_time"])
def test_the_demo_s_networks_hear_frame_rate_and_time(demo, recipe, family, name):
    """With one channel a group, GroupNorm takes away what the embedding of time, fps or motion adds to a channel."""
    assert hears(demo[family]["model"], recipe, family, name)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["fps", "model_time"])
def test_fewer_norm_groups_let_narrow_networks_hear(demo, recipe, family, name):
    assert hears(demo[family]["model"] | {"norm_groups": 8}, recipe, family, name)


def test_norm_groups_must_divide_the_channels(demo):
    with pytest.raises(PipelineError, match=r"model.norm_groups: 5 does not divide the 32 channels of "):
        build("svd", demo["svd"]["model"] | {"norm_groups": 5})


def hears(model: dict, recipe, family: str, name: str) -> bool:
    """Whether the output of the demo's network follows fps or time."""
    backbone = recipe.fill(build(family, model))
    image = recipe.draw("image", (2, 1 if backbone.image_input == "image_embedding" else 17, 32))
    text, latent = recipe.draw("text", (2, 12, 32)), recipe.draw("latent", (2, 4, SIZE, SIZE))
    usual = replace(
        backbone.conditions(text=text, image_latent=latent, fps=torch.tensor([3.0, 8.0])),
        image_context=backbone.image_context(image),
    )
    changed = replace(usual, fps=torch.tensor([9.0, 8.0])) if name == "fps" else usual
    x, time = recipe.draw("x", (2, 4, backbone.frames, SIZE, SIZE)), torch.tensor([1.5, 0.4])
    with torch.inference_mode():
        before = backbone(x, time, usual)
        after = backbone(x, torch.tensor([-1.0, 0.4]) if name == "model_time" else time, changed)
    return bool((after - before)[0].abs().max() > 2e-3 * before.abs().max())


def test_videocrafter1_has_no_room_for_an_image_latent(make_backbone, recipe):
    """The image enters only through the tokens: the first convolution sees the noisy latent alone."""
    assert make_backbone("videocrafter1").unet.input_blocks[0][0].in_channels == 4
    assert make_backbone("dynamicrafter").unet.input_blocks[0][0].in_channels == 8


def test_dynamicrafter_gives_every_frame_its_own_tokens(make_backbone, recipe):
    """The projector makes tokens for each frame; a change of the last frame's changes that frame first of all."""
    backbone = make_backbone("dynamicrafter")
    conditions = given(backbone, recipe)
    assert conditions.image_context.shape == (2, 4 * FRAMES, 24)
    tokens = conditions.image_context.clone()
    tokens[:, -4:] = recipe.draw("other tokens", (2, 4, 24))
    change = run(backbone, recipe, replace(conditions, image_context=tokens)) - run(backbone, recipe, conditions)
    by_frame = change.square().mean((0, 1, 3, 4))
    assert by_frame.argmax() == FRAMES - 1 and by_frame[-1] > 1.5 * by_frame[:-1].max()


@pytest.mark.parametrize("family", ["dynamicrafter", "svd"])
def test_image_latent_may_differ_by_frame(make_backbone, recipe, family):
    backbone = make_backbone(family)
    conditions = given(backbone, recipe)
    repeated = conditions.image_latent[:, :, None].repeat(1, 1, FRAMES, 1, 1)
    assert torch.equal(
        run(backbone, recipe, replace(conditions, image_latent=repeated)), run(backbone, recipe, conditions)
    )


def test_lvdm_default_frame_rate_is_used_where_none_is_given(make_backbone, recipe):
    backbone = make_backbone("dynamicrafter")
    conditions = given(backbone, recipe)
    silent = run(backbone, recipe, replace(conditions, fps=None))
    assert torch.equal(silent, run(backbone, recipe, replace(conditions, fps=torch.tensor([3.0, 3.0]))))


def test_svd_ids_are_fps_motion_bucket_and_noise_level_in_this_order(make_backbone, recipe):
    backbone, seen = make_backbone("svd"), []
    handle = backbone.unet.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["added_time_ids"]), with_kwargs=True
    )
    run(backbone, recipe, given(backbone, recipe))
    handle.remove()
    assert seen[0].tolist() == [[3.0, 20.0, pytest.approx(0.02)], [8.0, 20.0, pytest.approx(0.02)]]
    assert backbone.image_latent_factor(0.5) == 2.0, "its conditional latent is not multiplied by the VAE's factor"
    assert make_backbone("dynamicrafter").image_latent_factor(0.5) == 1.0


NULL_TEXT, NULL_CONTEXT = torch.full((12, 24), 7.0), torch.full((1, 1, 24), 5.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_unconditional_branch(make_backbone, recipe, family):
    """VideoCrafter1, DynamiCrafter: empty text, a grey picture's tokens, the same latent; SVD: zeros. The ids stay."""
    backbone = make_backbone(family)
    usual = given(backbone, recipe)
    empty = backbone.unconditional(usual, NULL_TEXT, NULL_CONTEXT)
    expected = {name: getattr(usual, name) for name in INPUTS}
    if family == "svd":
        expected |= {name: torch.zeros_like(expected[name]) for name in ("image_context", "image_latent")}
    else:
        expected |= {"text": NULL_TEXT.expand(2, -1, -1), "image_context": NULL_CONTEXT.expand_as(usual.image_context)}
    for name, value in expected.items():
        found = getattr(empty, name)
        assert found is value or torch.equal(found, value), name


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_touches_only_its_rows_and_never_dynamicrafter_s_latent(make_backbone, recipe, family):
    backbone = make_backbone(family)
    usual = given(backbone, recipe)
    empty = backbone.unconditional(usual, NULL_TEXT, NULL_CONTEXT)
    dropped = backbone.drop(usual, empty, text=torch.tensor([True, False]), image=torch.tensor([False, True]))
    rows = {"text": 0, "image_context": 1, "image_latent": 1 if family == "svd" else None}
    for name in INPUTS:
        value, before = getattr(dropped, name), getattr(usual, name)
        for sample in range(2) if before is not None else ():
            lost = rows.get(name) == sample
            assert torch.equal(value[sample], getattr(empty, name)[sample] if lost else before[sample]), (name, sample)


def test_cat_and_to_keep_every_field(make_backbone, recipe):
    conditions = given(make_backbone("svd"), recipe)
    both = Conditions.cat([conditions, conditions.to("cpu")])
    for name in INPUTS:
        value = getattr(conditions, name)
        assert (
            (getattr(both, name) is None)
            if value is None
            else torch.equal(getattr(both, name), torch.cat([value, value]))
        )
