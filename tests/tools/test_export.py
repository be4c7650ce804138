"""python -m pipeline export: what comes out loads as the authors' files do, and gives the same outputs."""

import pytest
import torch
from safetensors.torch import load_file

import pipeline.__main__ as command_line
from pipeline.backbones.checkpoint import load_backbone, save_backbone
from pipeline.backbones.registry import FAMILIES
from pipeline.conversion.backbone import convert_backbone
from pipeline.conversion.weight_file import find
from pipeline.footprint import example_inputs

VAE = "a" * 64


@pytest.fixture
def checkpoint(make_backbone, tmp_path):
    def make(family: str):
        save_backbone(tmp_path / family, make_backbone(family), VAE, {})
        return tmp_path / family

    return make


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_exported_and_converted_again_it_gives_the_same_outputs(make_backbone, checkpoint, tmp_path, family, capsys):
    assert command_line.main(["export", str(checkpoint(family)), str(tmp_path / "out")]) == 0
    file = "unet/diffusion_pytorch_model.safetensors" if family == "svd" else "model.ckpt"
    assert f"{tmp_path / 'out' / file}: {family}" in capsys.readouterr().out
    found = find(str(tmp_path / "out"), file, None, None)
    convert_backbone(tmp_path / "back", found, family, make_backbone(family).config, VAE, {})
    again = load_backbone(tmp_path / "back", family)
    inputs = example_inputs(again, (4, 4, 8, 8), 2, "cpu", torch.float32)
    torch.testing.assert_close(again(*inputs), make_backbone(family)(*inputs), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_diffusers_itself_loads_the_exported_svd(make_backbone, checkpoint, tmp_path):
    from diffusers import UNetSpatioTemporalConditionModel

    command_line.main(["export", str(checkpoint("svd")), str(tmp_path / "out")])
    theirs = UNetSpatioTemporalConditionModel.from_pretrained(tmp_path / "out", subfolder="unet").eval()
    ours = make_backbone("svd").unet
    sample, ids = torch.randn(1, 4, 8, 8, 8), torch.tensor([[6.0, 20.0, 0.0]])
    arguments = (sample, torch.tensor(1.0), torch.randn(1, 1, 24), ids)
    torch.testing.assert_close(theirs(*arguments).sample, ours(*arguments).sample, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spelling", ["fps_embedding", "framestride_embed"])
def test_into_keeps_everything_else_of_the_released_checkpoint(make_backbone, checkpoint, tmp_path, spelling):
    names = torch.load(_exported(checkpoint("dynamicrafter"), tmp_path / "first"), weights_only=True)["state_dict"]
    released = {name.replace("fps_embedding", spelling): torch.zeros_like(value) for name, value in names.items()}
    released |= {"first_stage_model.x": torch.ones(3), "betas": torch.ones(2)}
    torch.save({"state_dict": released, "epoch": 1}, tmp_path / "released.ckpt")
    path = _exported(checkpoint("dynamicrafter"), tmp_path / "out", "--into", str(tmp_path / "released.ckpt"))
    state = torch.load(path, weights_only=True)["state_dict"]
    assert set(state) == set(names) | {"first_stage_model.x", "betas"}
    assert all(torch.equal(state[name], value) for name, value in names.items())
    assert state["betas"].tolist() == [1.0, 1.0]


def _exported(folder, output, *more):
    assert command_line.main(["export", str(folder), str(output), *more]) == 0
    return output / "model.ckpt"


def test_refusals(make_backbone, checkpoint, tmp_path, capsys):
    folder = checkpoint("dynamicrafter")
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.ckpt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    for arguments, says in (
        ([str(tmp_path / "none"), str(tmp_path / "out")], "is not a checkpoint"),
        ([str(folder), str(tmp_path / "full")], "is there and not empty"),
        ([str(folder), str(tmp_path / "out"), "--into", str(tmp_path / "other.ckpt")], "is no checkpoint of dynamicr"),
        ([str(checkpoint("svd")), str(tmp_path / "out"), "--into", str(tmp_path / "other.ckpt")], "copy them beside"),
    ):
        assert command_line.main(["export", *arguments]) == 1
        assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_of_the_export_are_those_of_the_checkpoint(checkpoint, tmp_path):
    folder = checkpoint("svd")
    command_line.main(["export", str(folder), str(tmp_path / "out")])
    ours = load_file(folder / "model.safetensors")
    theirs = load_file(tmp_path / "out/unet/diffusion_pytorch_model.safetensors")
    assert {f"unet.{name}" for name in theirs} == set(ours)
