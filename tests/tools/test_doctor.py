"""python -m pipeline doctor: what is there, what is missing, what it will take."""

import shutil
from pathlib import Path

import pytest

import pipeline.__main__ as command_line
from pipeline import presets

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    shutil.copytree(ROOT / "envs", tmp_path / "envs")
    return tmp_path


def test_demo_lacks_nothing(folder, capsys):
    presets.write(presets.preset(ROOT / "presets", "demo"), folder / "params.yaml")
    assert command_line.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "nothing is missing" in said and "MISSING" not in said
    assert "svd: 0.6 million parameters" in said


def test_paper_names_every_file_that_is_missing_and_the_memory_it_takes(folder, capsys):
    presets.write(presets.preset(ROOT / "presets", "paper"), folder / "params.yaml")
    (folder / "data/webvid/videos").mkdir(parents=True)
    assert command_line.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "ok      clip_sets.webvid_strided.videos: data/webvid/videos" in said
    assert "MISSING clip_sets.webvid_strided.listing: data/webvid/results_2M_train.csv" in said
    assert "MISSING detectors.fvd.weights: released/i3d_pretrained_400.pt does not exist" in said
    assert "dynamicrafter: 1,487.6 million parameters" in said  # 1,438,854,980 + 48,787,456 in the official manifest
    assert "videocrafter1: 1,487.4 million parameters" in said
    assert "it would be fetched from the Hugging Face hub" in said
    assert "dynamicrafter: fine-tuning 2 clip(s) at once takes about" in said  # runtime.clips_per_device


def test_a_released_file_on_this_machine_is_seen(folder, capsys):
    tree = presets.preset(ROOT / "presets", "paper")
    for spec in tree["backbones"].values():
        spec["initialise"]["checkpoint"] = {"location": "here/m.ckpt", "file": None, "revision": None, "sha256": None}
    (folder / "here").mkdir()
    (folder / "here/m.ckpt").write_text("x")
    presets.write(tree, folder / "params.yaml")
    command_line.main(["doctor"])
    assert "ok      backbones.svd.initialise.checkpoint: here/m.ckpt\n" in capsys.readouterr().out


def test_params_that_cannot_be_read(folder, capsys):
    assert command_line.main(["doctor"]) == 1
    assert "params.yaml is missing" in capsys.readouterr().err
