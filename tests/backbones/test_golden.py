"""UNets and image projectors against reference numbers of the official code, weights and inputs filled by a recipe."""

import pytest
import torch

from pipeline.backbones.lvdm_unet import LvdmUNet
from pipeline.backbones.resampler import Resampler

UNET, ELSEWHERE = 1e-4, 1e-5  # error relative to the largest value


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


def inputs(meta: dict, recipe) -> dict[str, torch.Tensor]:
    return {
        key.removeprefix("input."): recipe.draw(key, shape)
        for key, shape in meta["inputs_recipe_keys_and_shapes"].items()
    }


def same_keys(module, meta: dict) -> None:
    found = {key: list(value.shape) for key, value in module.state_dict().items()}
    assert found == {key: value["shape"] for key, value in meta["keys"].items()}


def lvdm_unet(meta, recipe) -> LvdmUNet:
    unet = recipe.fill(LvdmUNet(meta["config"]))
    same_keys(unet, meta)
    return unet


LVDM_CASES = [
    ("unet_dynamicrafter_tiny", "fs", "A_perframe_img"),
    ("unet_dynamicrafter_tiny", "fs", "B_shared_img_default_fs"),
    ("unet_dynamicrafter_tiny", "fs", "C_text_only"),
    ("unet_videocrafter1_tiny", "fps", "A_img"),
    ("unet_videocrafter1_tiny", "fps", "B_default_fps"),
    ("unet_videocrafter1_tiny", "fps", "C_text_only"),
]


@pytest.mark.parametrize(("name", "rate", "case"), LVDM_CASES, ids=lambda value: value)
@torch.inference_mode()
def test_lvdm_unet_has_the_official_numbers(golden, recipe, name, rate, case):
    meta, expected = golden(name)
    assert set(meta["cases"]) == {row[2] for row in LVDM_CASES if row[0] == name}, "every reference case is compared"
    settings, given = meta["cases"][case], inputs(meta, recipe)
    context = torch.cat([given[part] for part in settings["context"]], 1)
    fps = None if settings[rate] is None else torch.tensor(settings[rate])
    found = lvdm_unet(meta, recipe)(given["x"], torch.tensor(settings["t"]), context, fps)
    assert error(found, expected[f"expected.{case}"]) <= UNET


@pytest.mark.parametrize("name", ["resampler_dynamicrafter_tiny", "resampler_videocrafter1_tiny"])
@torch.inference_mode()
def test_image_projector_has_the_official_numbers(golden, recipe, name):
    meta, expected = golden(name)
    projector = recipe.fill(Resampler(**meta["config"]))
    same_keys(projector, meta)
    found = projector(inputs(meta, recipe)["image_tokens"])
    assert list(found.shape) == meta["output_shape"]
    assert error(found, expected["expected.out"]) <= ELSEWHERE


@torch.inference_mode()
def test_svd_network_has_the_official_numbers(golden, recipe):
    """Each sample as the official class gives it alone; in one call that class mixes up the samples' contexts."""
    from pipeline.backbones.interface import Conditions
    from pipeline.backbones.svd import StableVideoDiffusion

    meta, expected = golden("unet_svd_tiny")
    backbone = StableVideoDiffusion({"unet": meta["config"], "motion_bucket": 20, "noise_level": 0.0})
    recipe.fill(backbone.unet)
    same_keys(backbone.unet, meta)
    given, case = inputs(meta, recipe), meta["cases"]["B"]
    noisy, image = given["sample"].transpose(1, 2).split(4, 1)
    fps, motion, noise = torch.tensor(case["added_time_ids"]).T
    conditions = Conditions(
        image_context=given["encoder_hidden_states"],
        image_latent=image,
        fps=fps,
        motion_bucket=motion,
        noise_level=noise,
    )
    found = backbone(noisy, torch.full((2,), case["timestep"]), conditions).transpose(1, 2)
    assert error(found, expected["diffusers0421.B"]) <= UNET
    for row in range(2):
        assert error(found[row : row + 1], expected[f"vendored.B_row{row}_alone"]) <= UNET


FULL_UNET = {
    "out_channels": 4, "model_channels": 320, "attention_resolutions": [4, 2, 1], "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4], "num_head_channels": 64, "transformer_depth": 1, "context_dim": 1024,
    "use_linear": True, "use_checkpoint": True, "temporal_conv": True, "temporal_attention": True,
    "temporal_selfatt_only": True, "use_relative_position": False, "use_causal_attention": False, "temporal_length": 16,
    "addition_attention": True,
}  # fmt: skip
FULL_PROJECTOR = {
    "dim": 1024, "depth": 4, "dim_head": 64, "heads": 12, "num_queries": 16, "embedding_dim": 1280, "output_dim": 1024,
    "ff_mult": 4,
}  # fmt: skip
FULL = {
    "dynamicrafter": (
        "manifest_dynamicrafter_512",
        {"in_channels": 8, "dropout": 0.1, "image_cross_attention": True, "default_fs": 24, "fs_condition": True},
        {"video_length": 16},
    ),
    "videocrafter1": (
        "manifest_videocrafter1_i2v_512",
        {"in_channels": 4, "use_image_attention": True, "fps_cond": True},
        {},
    ),
}


@pytest.mark.parametrize("family", FULL)
def test_full_size_model_has_every_key_and_shape_of_the_official_one(golden, family):
    """Built without memory, at the size of the official inference config."""
    from pipeline.backbones.registry import build

    name, unet, projector = FULL[family]
    with torch.device("meta"):
        backbone = build(family, {"unet": FULL_UNET | unet, "image_projector": FULL_PROJECTOR | projector})
    prefixes = {"model.diffusion_model.": "unet.", "image_proj_model.": "image_projector."}
    keys = golden(name)[0]["keys"]
    official = {}
    for theirs, ours in prefixes.items():
        official |= {ours + key.removeprefix(theirs): shape for key, shape in keys.items() if key.startswith(theirs)}
    assert len(official) == 1516 + 51
    assert {key: list(value.shape) for key, value in backbone.state_dict().items()} == official
