"""A checkpoint comes back as it was written, and a wrong or damaged one says what is wrong."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.backbones.checkpoint import CONFIG, WEIGHTS, load_backbone, save_backbone, weights_hash
from pipeline.backbones.registry import FAMILIES
from pipeline.errors import PipelineError

VAE = "a" * 64


@pytest.fixture
def checkpoint(make_backbone, tmp_path):
    """Of VideoCrafter1."""
    save_backbone(tmp_path / "models" / "one", make_backbone("videocrafter1"), VAE, {"steps": 3})
    return tmp_path / "models" / "one"


@pytest.mark.parametrize("family", FAMILIES)
def test_written_and_read(make_backbone, tmp_path, family):
    backbone = make_backbone(family)
    save_backbone(tmp_path, backbone, VAE, {"steps": 3})
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "config.json"}
    config = json.loads((tmp_path / CONFIG).read_text())
    assert config == {"family": family, "model": backbone.config, "vae_hash": VAE, "params": {"steps": 3}}
    loaded = load_backbone(tmp_path, family, VAE)
    assert type(loaded) is type(backbone) and not loaded.training
    expected, found = backbone.state_dict(), loaded.state_dict()
    assert expected.keys() == found.keys() and all(torch.equal(expected[key], found[key]) for key in expected)


def test_hash_is_that_of_the_weights_alone(checkpoint, make_backbone, tmp_path):
    save_backbone(tmp_path / "same", make_backbone("videocrafter1"), "b" * 64, {"steps": 9})
    assert weights_hash(tmp_path / "same") == weights_hash(checkpoint)
    weights = load_file(checkpoint / WEIGHTS)
    weights["unet.out.2.bias"] += 1e-3
    save_file(weights, checkpoint / WEIGHTS)
    assert weights_hash(tmp_path / "same") != weights_hash(checkpoint)


def test_another_backbone_s_checkpoint_is_refused(checkpoint):
    with pytest.raises(PipelineError, match=r"one holds a videocrafter1 checkpoint, but dynamicrafter is asked for"):
        load_backbone(checkpoint, "dynamicrafter")


def test_a_checkpoint_of_another_vae_is_refused(checkpoint):
    with pytest.raises(PipelineError, match=r"was trained on latents of VAE a{12}, but these come from VAE b{12}; use"):
        load_backbone(checkpoint, vae_hash="b" * 64)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_truncated_file(checkpoint, name):
    path = checkpoint / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PipelineError, match=r"the checkpoint .*one is damaged \(.+\); run its stage again"):
        load_backbone(checkpoint)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_missing_file(checkpoint, name):
    (checkpoint / name).unlink()
    with pytest.raises(PipelineError, match=f"one is not a checkpoint: {name} is missing; run its stage again"):
        load_backbone(checkpoint)


def test_folder_that_is_none(tmp_path):
    with pytest.raises(PipelineError, match=r"is not a checkpoint"):
        load_backbone(tmp_path / "none")


def test_config_that_lacks_a_key(checkpoint):
    (checkpoint / CONFIG).write_text(json.dumps({"family": "videocrafter1", "model": {}}))
    with pytest.raises(PipelineError, match=r"the checkpoint .*one is damaged \(.*vae_hash"):
        load_backbone(checkpoint, vae_hash=VAE)


def test_weights_of_other_keys_are_not_loaded_in_part(checkpoint):
    weights = load_file(checkpoint / WEIGHTS)
    weights["unet.out.2.wings"] = weights.pop("unet.out.2.bias")
    save_file(weights, checkpoint / WEIGHTS)
    with pytest.raises(PipelineError, match=r"missing \['unet.out.2.bias'\], unexpected \['unet.out.2.wings'\]"):
        load_backbone(checkpoint)


def test_weights_of_other_shapes_are_refused(checkpoint):
    """Weights of one width beside a config of another, as after copying files by hand."""
    weights = load_file(checkpoint / WEIGHTS)
    weights["unet.out.2.bias"] = torch.zeros(9)
    save_file(weights, checkpoint / WEIGHTS)
    with pytest.raises(PipelineError, match=r"unet.out.2.bias"):
        load_backbone(checkpoint)
