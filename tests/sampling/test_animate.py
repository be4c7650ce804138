"""python -m pipeline animate: one picture to one video, the same as the stage makes of it, and refusals in words."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import pipeline.__main__ as command_line
from pipeline import presets
from pipeline.backbones.checkpoint import save_backbone
from pipeline.data.video_file import enlarge
from pipeline.params.file import load_params
from pipeline.sampling.batch import Picture, make_videos
from pipeline.sampling.generate import Generator

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(make_backbone, encoders_folder, encoders, moments, tmp_path, monkeypatch):
    """A project folder with starting weights of every family, moments, one training and a picture."""
    monkeypatch.chdir(tmp_path)
    tree = presets.read(ROOT / "presets/demo.yaml")
    for family, spec in tree["backbones"].items():
        backbone = make_backbone(family)
        presets.overlay(spec, {"model": None})
        spec["model"] = json.loads(json.dumps(backbone.config))
        spec["sampling"]["steps"] = 3
        folder = tmp_path / "models" / f"{family}-initial"
        shutil.copytree(encoders_folder, folder)
        save_backbone(folder, backbone, encoders.vae_hash, {})
        (tmp_path / "moments").mkdir(exist_ok=True)
        about = {"moments": json.dumps({"vae_hash": encoders.vae_hash})}
        tensors = {"mean": moments[0], "variance": torch.tensor(moments[1])}
        save_file(tensors, tmp_path / "moments" / f"{family}.safetensors", about)
    presets.write(tree, tmp_path / "params.yaml")
    other = make_backbone("svd").state_dict()
    save_backbone(tmp_path / "models/svd-finetune", make_backbone("svd"), encoders.vae_hash, {})
    changed = {name: value * 1.2 for name, value in other.items()}
    save_file(changed, tmp_path / "models/svd-finetune/model.safetensors")
    picture = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a picture.png"), cv2.resize(picture, (80, 48)))
    return tmp_path


def frames(path: Path) -> np.ndarray:
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def animate(*arguments: str) -> int:
    return command_line.main(["animate", "a picture.png", *arguments])


@pytest.mark.parametrize("family", ["videocrafter1", "dynamicrafter", "svd"])
def test_a_picture_becomes_the_video_that_the_sampler_makes_of_it(
    project, make_backbone, encoders, moments, capsys, family
):
    start = "20" if family == "svd" else "0.92"
    options = ["--backbone", family, "--prompt", "a red ball", "--start", start, "--init", "analytic", "--fps", "6"]
    assert animate(*options) == 0
    assert "a picture.mp4: 4 frames of 32 x 32" in capsys.readouterr().out
    spec = load_params(Path("params.yaml")).backbones[family]
    generator = Generator(make_backbone(family), spec.process, spec.sampling, float(start), "analytic", *moments)
    picture = cv2.cvtColor(cv2.imread("a picture.png"), cv2.COLOR_BGR2RGB)
    from pipeline.data.decode import resize_and_crop

    item = Picture("a picture.png", 0, "a red ball", 6.0)
    expected = make_videos(generator, encoders, resize_and_crop(picture[None], 32, 32), [item], 0, "cpu")[0][0]
    found = frames(project / "a picture.mp4").astype(float)
    wanted = enlarge(expected, 256).astype(float)
    assert found.shape == wanted.shape
    assert np.abs(found.mean((1, 2)) - wanted.mean((1, 2))).max() < 4  # H.264 in 4:2:0 keeps colours, not each pixel


def test_seed_start_and_checkpoint_change_the_video(project):
    made = {}
    for name, more in {
        "plain": [], "again": [], "seed": ["--seed", "1"], "start": ["--start", "5"],
        "checkpoint": ["--checkpoint", "svd-finetune"], "folder": ["--checkpoint", "models/svd-finetune"],
    }.items():  # fmt: skip
        assert animate("--backbone", "svd", "--output", f"{name}.mp4", *more) == 0
        made[name] = (project / f"{name}.mp4").read_bytes()
    assert made["plain"] == made["again"] and made["checkpoint"] == made["folder"]
    assert len({made[name] for name in ("plain", "seed", "start", "checkpoint")}) == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--backbone", "sora"], "--backbone 'sora' is none of videocrafter1, dynamicrafter, svd"),
        (["--backbone", "svd", "--start", "900"], "--start 900: svd starts above 0 and not above 200"),
        (["--backbone", "svd", "--start", "0"], "starts above 0"),
        (["--backbone", "videocrafter1", "--start", "1.5"], "not above 1"),
        (["--backbone", "svd", "--output", "x.gif"], "give a name that ends in .mp4"),
        (["--backbone", "svd", "--checkpoint", "none"], "models/none is not there; make it first"),
        (["--backbone", "dynamicrafter", "--checkpoint", "svd-finetune"], "holds a svd checkpoint, but dynamicrafter"),
    ],
)
def test_what_cannot_be_animated_is_said(project, capsys, arguments, says):
    assert animate(*arguments) == 1
    assert says in capsys.readouterr().err
    assert not list(project.glob("*.mp4"))


def test_a_picture_that_is_none(project, capsys):
    (project / "a picture.png").write_bytes(b"no picture")
    assert animate("--backbone", "svd") == 1
    assert "a picture.png cannot be used (not_a_picture" in capsys.readouterr().err
    (project / "a picture.png").unlink()
    assert animate("--backbone", "svd") == 1
    assert "there is no such file" in capsys.readouterr().err
