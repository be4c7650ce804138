"""Three models of their own kind, not one under three names: modules, weights, targets and training inputs."""

import copy
import re
from itertools import combinations
from types import SimpleNamespace

import pytest
import torch

from pipeline.backbones.registry import FAMILIES, build
from pipeline.diffusion.schedules import make_schedule
from pipeline.diffusion.timenoise import make_condition_noise
from pipeline.errors import PipelineError
from pipeline.params.file import validate_params
from pipeline.training.batches import assemble, noise_conditions
from pipeline.training.loss import TrainingStep

FRAMES, FACTOR = 4, 0.5


def shapes(backbone) -> dict[str, tuple]:
    return {key: tuple(value.shape) for key, value in backbone.state_dict().items()}


def test_no_two_families_share_class_or_weights(make_backbone):
    for one, two in combinations([make_backbone(family) for family in FAMILIES], 2):
        assert type(one) is not type(two)
        assert shapes(one) != shapes(two)
        with pytest.raises(RuntimeError, match=r"Missing key|size mismatch"):
            copy.deepcopy(one).load_state_dict(two.state_dict())


def test_svd_has_networks_of_another_architecture(make_backbone):
    lvdm, svd = make_backbone("videocrafter1"), make_backbone("svd")
    assert not shapes(lvdm).keys() & shapes(svd).keys()
    assert type(lvdm.unet) is not type(svd.unet)
    assert not hasattr(svd, "image_projector"), "its CLIP embedding is fed as it is"


def test_the_lvdm_families_differ_where_the_image_enters(make_backbone):
    """Same official code base: all but the first convolution and the queries is equal in shape."""
    one, two = shapes(make_backbone("videocrafter1")), shapes(make_backbone("dynamicrafter"))
    assert one.keys() == two.keys()
    differing = {key: (one[key], two[key]) for key in one if one[key] != two[key]}
    assert differing == {
        "unet.input_blocks.0.0.weight": ((32, 4, 3, 3), (32, 8, 3, 3)),
        "image_projector.latents": ((1, 4, 32), (1, 4 * FRAMES, 32)),
    }


def test_what_the_families_state_about_themselves(demo):
    stated = {}
    for family in FAMILIES:
        backbone = build(family, demo[family]["model"])
        stated[family] = (
            backbone.process,
            backbone.conditional_frame,
            backbone.image_input,
            backbone.noised_conditions,
        )
        assert backbone.process == demo[family]["process"]["kind"]
    assert stated == {
        "videocrafter1": ("vp", "first", "image_tokens", ("image_context",)),
        "dynamicrafter": ("vp", "random", "image_tokens", ("image_latent", "image_context")),
        "svd": ("ve", "first", "image_embedding", ("image_latent",)),
    }


@pytest.mark.parametrize("training", ["videocrafter1-finetune", "videocrafter1-initial"])
def test_a_row_with_another_backbone_s_training_is_refused(preset, training):
    """The row's process and sampler would otherwise be used on another family's network, without a word."""
    preset["runs"]["svd-finetune-standard"]["training"] = training
    with pytest.raises(
        PipelineError, match=f"runs.svd-finetune-standard.training: {training} is of videocrafter1, the row"
    ):
        validate_params(preset, "params.yaml")


@pytest.mark.parametrize(("family", "other"), [("svd", "videocrafter1"), ("dynamicrafter", "svd")])
def test_a_family_with_another_kind_of_process_is_refused(preset, family, other):
    for name in ("process", "sampling"):
        preset["backbones"][family][name] = preset["backbones"][other][name]
    with pytest.raises(PipelineError, match=f"backbones.{family}.process.kind: {family} is a (ve|vp) model"):
        validate_params(preset, "params.yaml")


def test_unknown_family_and_unknown_field_are_named(demo):
    with pytest.raises(PipelineError, match=r"'sora' is unknown; there are: videocrafter1, dynamicrafter, svd"):
        build("sora", {})
    model = demo["videocrafter1"]["model"]
    with pytest.raises(
        PipelineError, match=r"model.unet.use_causal_attention = True is not a field of the released models"
    ):
        build("videocrafter1", {**model, "unet": {**model["unet"], "use_causal_attention": True}})
    with pytest.raises(PipelineError, match=r"model.unet.wings = 2"):
        build("videocrafter1", {**model, "unet": {**model["unet"], "wings": 2}})


def oracles(x0, noise, t) -> dict[str, torch.Tensor]:
    """The output that each target asks for, by formulas of the papers; t is a step, or sigma for EDM."""
    step = t.long()
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    roots = torch.cumprod(1 - betas, 0).sqrt()
    shifted = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    alpha = shifted[step].float().reshape(-1, 1, 1, 1, 1)
    scale = torch.where(step < 400, 1 - 0.3 * step / 399, 0.7).reshape(-1, 1, 1, 1, 1)
    sigma = t.float().reshape(-1, 1, 1, 1, 1)
    return {
        "eps": noise,
        "v": alpha * noise - (1 - alpha**2).sqrt() * scale * x0,
        # EDM with sigma_data 1: x0 = x_t / (s^2 + 1) - s / sqrt(s^2 + 1) F
        "edm": ((x0 + sigma * noise) / (sigma**2 + 1) - x0) * (sigma**2 + 1).sqrt() / sigma,
    }


@pytest.mark.parametrize(("family", "target"), [("videocrafter1", "eps"), ("dynamicrafter", "v"), ("svd", "edm")])
def test_training_target(demo, recipe, family, target):
    """Only the family's own target brings the loss to zero."""
    schedule = make_schedule(demo[family]["process"])
    t = torch.tensor([3.0, 17.0]) if family == "svd" else torch.tensor([200, 650])
    x0, noise = recipe.draw("x0", (2, 4, FRAMES, 8, 8)), recipe.draw("noise", (2, 4, FRAMES, 8, 8))
    x_t = schedule.add_noise(x0, noise, t)
    for name, output in oracles(x0, noise, t).items():
        loss = schedule.training_loss(output, x0, noise, x_t, t)
        assert (loss < 1e-8).all() if name == target else (loss > 1e-2).all(), name


class Latents:
    """Clips whose every frame is told by its value: 1 + clip * 100 + frame, in latents, tokens and embeddings."""

    scaling_factor = FACTOR
    ids = tuple("abcd")

    def batch(self, positions, fields) -> dict[str, torch.Tensor]:
        values = 1 + 100 * torch.tensor(positions)[:, None] + torch.arange(FRAMES)
        rows = {
            "mean": values[:, None, :, None, None].expand(-1, 4, -1, 8, 8).float(),
            "logvar": torch.full((len(positions), 4, FRAMES, 8, 8), -60.0),
            "image_tokens": values[..., None, None].expand(-1, -1, 9, 40).float(),
            "image_embedding": values[..., None, None].expand(-1, -1, 1, 24).float(),
            "text": torch.ones(len(positions), 12, 24),
            "fps": torch.tensor([3.0 + position for position in positions]),
        }
        return {name: rows[name] for name in fields}

    def shape(self, field) -> tuple[int, ...]:
        return self.batch([0], [field])[field].shape[1:]

    def pictures(self, positions, field, frames) -> torch.Tensor:
        return self.batch(positions, [field])[field][torch.arange(len(positions)), frames]


SETTINGS = SimpleNamespace(seed=0, dropout=SimpleNamespace(text=0.0, image=0.0, both=0.0))


@pytest.mark.parametrize("family", FAMILIES)
def test_latent_and_tokens_of_a_training_batch_are_of_one_frame(make_backbone, demo, family):
    """DynamiCrafter's conditional frame is random, and both of its image paths see the same one."""
    backbone, schedule = make_backbone(family), make_schedule(demo[family]["process"])
    seen = set()
    for step in range(12):
        batch = assemble(backbone, schedule, Latents(), SETTINGS, step, [0, 3])
        frames = batch.image_tokens[:, 0, 0] - 1 - torch.tensor([0.0, 300.0])
        assert ((frames >= 0) & (frames < FRAMES)).all()
        seen |= {int(frame) for frame in frames}
        if batch.conditions.image_latent is not None:
            factor = 1.0 if family == "svd" else FACTOR  # SVD's is not in model scale
            expected = factor * batch.image_tokens[:, 0, 0].reshape(2, 1, 1, 1).expand(-1, 4, 8, 8)
            assert torch.allclose(batch.conditions.image_latent, expected)
        assert batch.conditions.fps.tolist() == [3.0, 6.0]
    assert seen == (set(range(FRAMES)) if family == "dynamicrafter" else {0})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_is_trained(make_backbone, demo, recipe, switches, family):
    """A cut path shows as weights without gradient. Where SVD attends to its single token is no choice."""
    backbone, schedule = make_backbone(family), make_schedule(demo[family]["process"])
    null = {
        "text": torch.zeros(12, 24),
        "image_tokens": torch.zeros(9, 40),
        "image_embedding": torch.zeros(1, 24),
    }
    noise = make_condition_noise({"kind": "timenoise", "beta_max": 1.0, "exponent": 5.0})
    step = TrainingStep(backbone, schedule, noise, switches(family), null)
    batch = assemble(backbone, schedule, Latents(), SETTINGS, 0, [0, 1])
    batch.x0 = recipe.draw("x0", batch.x0.shape)
    step(batch).mean().backward()
    silent = {
        name for name, weight in backbone.named_parameters() if weight.grad is None or not weight.grad.abs().max() > 0
    }
    backbone.zero_grad(set_to_none=True)
    if family == "svd":
        moot = re.compile(r"transformer_blocks\.\d+\.(attn2\.to_[qk]|norm2)\.")
        silent = {name for name in silent if not moot.search(name)}
    assert not silent


@pytest.mark.parametrize("family", FAMILIES)
def test_timenoise_enters_where_the_image_does_and_nowhere_else(make_backbone, demo, switches, family):
    backbone, schedule = make_backbone(family), make_schedule(demo[family]["process"])
    batch = assemble(backbone, schedule, Latents(), SETTINGS, 0, [0, 1])
    clean = batch.conditions_with(torch.ones(2, 4, 24))
    noise = make_condition_noise({"kind": "timenoise", "beta_max": 2.0, "exponent": 5.0})
    noised = noise_conditions(backbone, clean, noise, batch, schedule, switches(family))
    changed = {
        name for name in clean.__dataclass_fields__
        if getattr(clean, name) is not None and not torch.equal(getattr(clean, name), getattr(noised, name))
    }  # fmt: skip
    expected = {
        "videocrafter1": {"image_context"},
        "dynamicrafter": {"image_context", "image_latent"},
        "svd": {"image_latent", "noise_level"},
    }
    assert changed == expected[family]


def test_heads_by_number_are_those_by_width_and_projections_may_be_convolutions(demo, recipe):
    """Official fields that the released models do not use, but configs of their code may."""
    model = demo["videocrafter1"]["model"]
    by_width = recipe.fill(build("videocrafter1", model))
    unet = {name: value for name, value in model["unet"].items() if name != "num_head_channels"}
    by_number = recipe.fill(build("videocrafter1", {**model, "unet": {**unet, "num_heads": 2}}))
    convolution = recipe.fill(build("videocrafter1", {**model, "unet": {**model["unet"], "use_linear": False}}))
    assert shapes(by_width) == shapes(by_number)
    dims = {
        shapes(convolution)[name][2:] for name in shapes(convolution) if name.endswith("proj_in.weight")
        and name.startswith("unet.input_blocks")
    }  # fmt: skip
    assert dims == {(1, 1), (1,)}
    inputs = (torch.randn(1, 4, 4, 8, 8), torch.tensor([5]), torch.randn(1, 12, 32))
    convolution.load_state_dict(
        {name: value.reshape(shapes(convolution)[name]) for name, value in by_width.state_dict().items()}
    )
    with torch.inference_mode():
        one, two, three = (backbone.unet(*inputs) for backbone in (by_width, by_number, convolution))
    assert torch.allclose(one, two) and torch.allclose(one, three, atol=1e-5)
    with pytest.raises(PipelineError, match="give num_head_channels"):
        build("videocrafter1", {**model, "unet": unet})
