"""The sheet is blinded, complete and safe; the key alone can undo the blinding."""

import csv
import json
import re
import shutil

import cv2
import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.samples import read_manifest
from pipeline.study import sheet as sheet_module
from pipeline.study.questions import QUESTIONS
from pipeline.study.sheet import write_sheet


@pytest.fixture(scope="module")
def written(samples, survey, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs") / "b"
    folder.mkdir()
    assert write_sheet(folder, samples, 5, survey) == 18
    return folder


def rows(path):
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def page_data(folder) -> dict:
    page = (folder / "sheet" / "index.html").read_text()
    return json.loads(re.search(r"^const data = (.*);$", page, re.M)[1])


def test_the_key_undoes_the_blinding_and_nothing_else_does(written, samples):
    key = {row["pair"]: row for row in rows(written / "key" / "key.csv")}
    shown = {pair["pair"]: pair for pair in page_data(written)["pairs"]}
    assert key.keys() == shown.keys() and len(key) == 18 + 2
    for name, answer in key.items():
        for side in ("left", "right") if not answer["check"] else ():
            source, manifest = samples[answer[f"{side}_run"]]
            entry = next(entry for entry in manifest if entry["id"] == answer["picture"])
            assert (written / "sheet" / shown[name][side]).read_bytes() == (source / entry["video"]).read_bytes()


def test_the_lists_of_the_page_are_those_of_the_key_with_all_checks(written):
    data, key = page_data(written), {row["pair"]: row for row in rows(written / "key" / "key.csv")}
    assigned = {}
    for row in rows(written / "key" / "assignment.csv"):
        assigned.setdefault(int(row["participant"]), []).append(row["pair"])
    assert [[data["pairs"][i]["pair"] for i in own] for own in data["lists"]] == [assigned[n] for n in (1, 2, 3)]
    for own in assigned.values():
        assert len(own) == 8 and sum(bool(key[pair]["check"]) for pair in own) == 2 and not key[own[0]]["check"]
    assert {row["check"] for row in key.values()} == {"", "motion", "image alignment"}


def decoded(path) -> np.ndarray:
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(float)


def test_checks_show_no_models_videos_and_their_answers_are_plain(written, samples):
    """Motion: one side alone moves. Image alignment: both stand still, one shows the picture."""
    shown = {pair["pair"]: pair for pair in page_data(written)["pairs"]}
    models = {(folder / entry["video"]).read_bytes() for folder, manifest in samples.values() for entry in manifest}
    checks = [row for row in rows(written / "key" / "key.csv") if row["check"]]
    for check in checks:
        pair = shown[check["pair"]]
        files = {side: written / "sheet" / pair[side] for side in ("left", "right")}
        assert not {path.read_bytes() for path in files.values()} & models
        frames = {side: decoded(path) for side, path in files.items()}
        assert {len(each) for each in frames.values()} == {16}
        right, wrong = frames.pop(check["expected"]), frames.popitem()[1]
        assert wrong.std(0).mean() < 0.5
        if check["check"] == "motion":
            assert right.std(0).mean() > 2
        else:
            condition = cv2.cvtColor(cv2.imread(str(written / "sheet" / pair["condition"])), cv2.COLOR_BGR2RGB)
            assert right.std(0).mean() < 0.5
            assert abs(right[0] - condition).mean() < 3 < 20 < abs(wrong[0] - condition).mean()
    assert {check["expected"] for check in checks} == {"left", "right"}


def study_id(folder) -> str:
    return (folder / "key" / "study.txt").read_text()


def test_other_videos_or_other_words_are_another_study(written, samples, survey, tmp_path, monkeypatch):
    run = next(iter(samples))
    source, manifest = samples[run]
    shutil.copytree(source, tmp_path / "samples")
    with (tmp_path / "samples" / manifest[0]["video"]).open("ab") as video:
        video.write(b"another")
    for name in ("video", "words"):
        (tmp_path / name).mkdir()
    write_sheet(tmp_path / "video", {**samples, run: (tmp_path / "samples", manifest)}, 5, survey)
    monkeypatch.setattr(sheet_module, "QUESTIONS", (*QUESTIONS[:-1], ("overall", "Which is worse?")))
    write_sheet(tmp_path / "words", samples, 5, survey)
    assert len({study_id(written), study_id(tmp_path / "video"), study_id(tmp_path / "words")}) == 3


def test_the_sheet_names_no_run_and_not_the_key(written, samples):
    text = "".join(path.read_text() for path in (written / "sheet").iterdir() if path.is_file())
    names = " ".join(str(path.relative_to(written / "sheet")) for path in (written / "sheet").rglob("*"))
    for word in (*samples, "finetune", "timenoise", "analytic", "standard", "key.csv", "media.csv", "key/", "expected"):
        assert word not in text and word not in names


def test_text_from_data_cannot_become_markup(written):
    page = (written / "sheet" / "index.html").read_text()
    assert "<b>ball" not in page
    assert page.count("</script>") == 1


def test_the_page_asks_the_four_questions_and_loads_nothing_from_elsewhere(written):
    page = (written / "sheet" / "index.html").read_text()
    for question in ("Motion", "Temporal consistency", "Image alignment", "Overall"):
        assert f"<b>{question}</b>" in page
    assert "http://" not in page and "https://" not in page


def test_the_same_seed_writes_the_same_files_and_another_other_names(written, samples, survey, tmp_path):
    for name, seed in (("same", 5), ("other", 6)):
        (tmp_path / name).mkdir()
        write_sheet(tmp_path / name, samples, seed, survey)
    files = {path.relative_to(written): path.read_bytes() for path in written.rglob("*") if path.is_file()}
    for path, content in files.items():
        assert (tmp_path / "same" / path).read_bytes() == content
    media = {path.name for path in (written / "sheet" / "media").iterdir()}
    assert len(media) == 3 * 4 + 3 + 2 * 2
    assert media.isdisjoint(path.name for path in (tmp_path / "other" / "sheet" / "media").iterdir())


def test_a_picture_that_one_run_lacks_is_an_error(samples, survey, tmp_path):
    run = next(iter(samples))
    folder, manifest = samples[run]
    with pytest.raises(PipelineError, match=rf"{run} lack \['red.png'\]"):
        write_sheet(
            tmp_path, {**samples, run: (folder, [entry for entry in manifest if entry["id"] != "red.png"])}, 0, survey
        )


@pytest.mark.parametrize("path", ["../outside.mp4", "videos/absent.mp4", "/etc/hostname"])
def test_a_manifest_cannot_name_files_outside_its_folder(samples, survey, tmp_path, path):
    run = next(iter(samples))
    folder, manifest = samples[run]
    (folder.parent / "outside.mp4").write_bytes(b"secret")
    with pytest.raises(PipelineError, match="does not hold"):
        write_sheet(tmp_path, {**samples, run: (folder, [{**entry, "video": path} for entry in manifest])}, 0, survey)


def test_a_damaged_manifest_names_its_line(samples, tmp_path):
    folder = next(iter(samples.values()))[0]
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "manifest.jsonl").write_text(
        '{"id": "a", "seed": 0, "prompt": "", "condition_id": "a"}\n{"id": "b", "condition_id": "b"}\n'
    )
    with pytest.raises(PipelineError, match=r"line 2: seed, prompt missing"):
        read_manifest(tmp_path / "copy")
