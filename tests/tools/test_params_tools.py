"""use-data and preset: params.yaml points at the reader's folders, keeps its comments, and is whole or as before."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline.__main__ as command_line
from pipeline.errors import PipelineError
from pipeline.params.file import load_params
from pipeline.tools import preset, use_data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project folder with the demo's parameters and the reader's data."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "presets/demo.yaml", tmp_path / "params.yaml")
    for name in ("my/videos", "my/UCF-101", "my/images"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("my/list.csv", "my/testlist01.txt", "my/prompts.csv"):
        (tmp_path / name).write_text("x")
    return tmp_path


ALL = [
    "--webvid", "my/list.csv", "my/videos", "--ucf101", "my/testlist01.txt", "my/UCF-101",
    "--imagebench", "my/prompts.csv", "my/images", "--windows", "4",
]  # fmt: skip


def test_use_data_rewrites_params_to_the_reader_s_folders(folder, capsys):
    before = load_params(Path("params.yaml"))
    columns = ["--columns", "clip,text,", "--conditions", "5", "--reference", "6", "--allow-few"]
    assert use_data.run([*ALL, *columns]) == 0
    params = load_params(Path("params.yaml"))
    for name, kind in (("own_strided", "uniform_stride"), ("own_fixed", "fixed_fps")):
        spec = params.clip_sets[name]
        assert (spec.layout, spec.listing, spec.videos, spec.windows) == ("webvid", "my/list.csv", "my/videos", 4)
        assert (spec.columns.id, spec.columns.caption, spec.columns.folder) == ("clip", "text", None)
        assert spec.frame_rule.kind == kind
        assert params.latents[name].clips == name
    for name in ("ucf101", "imagebench"):
        assert params.clip_sets[name].videos.startswith("my/")
        assert params.clip_sets[name].listing.startswith("my/")
    assert (params.clip_sets["ucf101"].windows, params.clip_sets["imagebench"].windows) == (4, 1)
    assert {spec.latents for spec in params.trainings.values()} == {"own_strided", "own_fixed"}
    assert {spec.latents for spec in params.backbones.values()} == {"own_strided", "own_fixed"}
    evaluation = params.evaluation
    assert (evaluation.conditions, evaluation.reference, evaluation.allow_few) == (5, 6, True)
    # what the demo's world still makes, and all that has nothing to do with data
    assert params.clip_sets["ucf101_train"] == before.clip_sets["ucf101_train"]
    assert params.encoders == before.encoders and params.runs == before.runs and params.world == before.world
    assert {spec.initialise.latents for spec in params.backbones.values()} <= {"webvid_strided", "webvid_fixed"}
    assert "params.yaml points at your data" in capsys.readouterr().out


def test_each_part_may_be_given_alone_and_the_rest_stays(folder):
    use_data.run(["--ucf101", "my/testlist01.txt", "my/UCF-101"])
    params, demo = load_params(Path("params.yaml")), load_params(ROOT / "presets/demo.yaml")
    assert params.clip_sets["ucf101"].listing == "my/testlist01.txt"
    assert params.clip_sets["imagebench"] == demo.clip_sets["imagebench"] and params.trainings == demo.trainings
    assert params.evaluation == demo.evaluation


def test_comments_are_kept_and_a_second_time_changes_nothing(folder):
    use_data.run(ALL)
    once = Path("params.yaml").read_text()
    params = load_params(Path("params.yaml"))
    comments = {line.split("#", 1)[1] for line in (ROOT / "presets/demo.yaml").read_text().splitlines() if "#" in line}
    assert all(comment in once for comment in comments)
    use_data.run(ALL)
    assert load_params(Path("params.yaml")) == params


def test_preset_demo_goes_back_to_the_committed_file(folder):
    use_data.run(ALL)
    preset.run(["demo"])
    assert Path("params.yaml").read_text() == (ROOT / "presets/demo.yaml").read_text()


@pytest.mark.parametrize(("arguments", "says"), [
    (["--webvid", "my/none.csv", "my/videos"], "--webvid: my/none.csv does not exist"),
    (["--ucf101", "my/testlist01.txt", "my/none"], "--ucf101: my/none does not exist"),
    (["--imagebench", "my/prompts.csv", "nowhere"], "--imagebench: nowhere does not exist"),
    (["--webvid", "my/list.csv", "my/videos", "--columns", "a,b"], "--columns takes ID,CAPTION,FOLDER"),
    (["--webvid", "my/list.csv", "my/videos", "--columns", ",b,c"], "--columns takes ID,CAPTION,FOLDER"),
    ([*ALL[:-1], "0"], "clip_sets.own_strided.windows: Input should be greater than 0"),
    (["--conditions", "0"], "evaluation.conditions: Input should be greater than 0"),
    (["--reference", "-3"], "evaluation.reference: Input should be greater than 0"),
])  # fmt: skip
def test_what_cannot_be_used_is_an_error_and_leaves_the_file_alone(folder, capsys, arguments, says):
    before = Path("params.yaml").read_text()
    assert command_line.main(["use-data", *arguments]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and says in errors and "Traceback" not in errors
    assert Path("params.yaml").read_text() == before
    assert not list(Path().glob(".params*"))


@pytest.mark.parametrize("text", [None, "a: [", "", "clip_sets: {}"])
def test_params_that_are_missing_or_broken_are_an_error_for_people(folder, text):
    Path("params.yaml").unlink() if text is None else Path("params.yaml").write_text(text)
    with pytest.raises(PipelineError, match=r"params\.yaml"):
        use_data.run(ALL)


def test_unknown_preset_lists_those_there_are(folder):
    with pytest.raises(PipelineError, match="there is no preset 'big'; there are: demo, paper, smoke"):
        preset.run(["big"])


def test_a_python_without_the_projects_packages_says_which_it_is():
    command = [sys.executable, "-S", "-m", "pipeline", "world"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 1 and "activates it" in answer.stderr
    assert sys.executable in answer.stderr and "Traceback" not in answer.stderr
