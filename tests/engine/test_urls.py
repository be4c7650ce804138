"""Inputs behind URLs, with the real stage preprocess: DVC records them, a change reruns, a dead server says so."""

import csv
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.data.schema import ClipSet, read_rejects
from tests.helpers.ftp import FtpServer

ROOT = Path(__file__).resolve().parents[2]
SET = "webvid_fixed"
STAGE = f"preprocess@{SET}"


def write_video(path: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=9)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        for picture in noise:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())


def write_listing(path: Path, ids: list[str]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["videoid", "name", "page_dir"])
        writer.writerows([id, f"video {id}", "page"] for id in ids)


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data"
    (folder / "videos/page").mkdir(parents=True)
    for number in (1, 2):
        write_video(folder / f"videos/page/{number}.mp4", number)
    write_listing(folder / "listing.csv", ["1", "2", "3"])
    return folder


@pytest.fixture
def project(new_workspace, tmp_path):
    """A project of which nothing has run, with the real stage preprocess."""
    made = new_workspace(tmp_path / "project")
    shutil.copy(ROOT / "pipeline/stages/preprocess.py", made.path / "pipeline/stages/preprocess.py")
    return made


@pytest.fixture
def remote(project, server):
    """With one clip set behind a URL."""
    project.set(f"clip_sets.{SET}.listing", f"{server.url}/listing.csv")
    project.set(f"clip_sets.{SET}.videos", f"{server.url}/videos/")
    return project


def test_clips_from_a_web_server_are_made_recorded_and_made_again_when_they_change(remote, server, data):
    remote.dvc("repro", "--single-item", STAGE)
    clips = remote.path / "clips" / SET
    assert ClipSet(clips).ids == ["1", "2"]
    assert [(row["id"], row["reason"]) for row in read_rejects(clips)] == [("3", "missing")]
    assert remote.planned_by_dvc(STAGE) == remote.planned(f"clips/{SET}") == set()
    recorded = (remote.path / "dvc.lock").read_text()
    assert f"path: {server.url}/listing.csv" in recorded and f"path: {server.url}/videos/" in recorded
    write_listing(data / "listing.csv", ["1", "2"])
    assert remote.planned_by_dvc(STAGE) == remote.planned(f"clips/{SET}") == {STAGE}
    remote.snakemake(f"clips/{SET}")
    assert read_rejects(clips) == [] and ClipSet(clips).ids == ["1", "2"]
    assert remote.planned_by_dvc(STAGE) == set()


def test_dead_server_is_named_and_leaves_what_there_is(remote, server):
    (remote.path / "clips" / SET).mkdir(parents=True)
    server.fails = lambda path: 503
    message = remote.run("python", "-m", "pipeline", "preprocess", "--set", SET, ok=False)
    assert f"clip_sets.{SET}.listing: {server.url}/listing.csv cannot be reached (503" in message
    assert "Traceback" not in message and (remote.path / "clips" / SET).exists()


@pytest.mark.parametrize(("url", "words"), [
    ("ftp://host/listing.csv", "pipeline pointer inputs/NAME.pointer.yaml --url URL"),
    ("zip://listing.csv::s3://bucket/clips.zip", "DVC cannot watch zip://"),
    ("file:///data/listing.csv", "write the path itself"),
])  # fmt: skip
def test_address_that_dvc_cannot_watch_is_refused_with_what_to_do(project, url, words):
    params = project.path / "params.yaml"
    params.write_text(params.read_text().replace("data/world/webvid/results_2M_train.csv", url))
    message = project.run("python", "-m", "pipeline", "doctor", ok=False)
    assert f"clip_sets.{SET}.listing" in message and words in message and "Traceback" not in message
    message = project.snakemake("-n", f"clips/{SET}", ok=False)
    assert url.partition("//")[0] in message and "Traceback" not in message


def test_pointer_stands_for_data_that_dvc_cannot_watch(project, data):
    """Both engines see that it was renewed, and before that no result is made of data that it does not tell of."""
    served = FtpServer(data)
    names = {"listing": "inputs/listing.pointer.yaml", "videos": "inputs/videos.pointer.yaml"}
    for what, path in {"listing": "listing.csv", "videos": "videos"}.items():
        project.run("python", "-m", "pipeline", "pointer", names[what], "--url", f"{served.url}/{path}")
        project.set(f"clip_sets.{SET}.{what}", names[what])
    project.dvc("repro", "--single-item", STAGE)
    clips = project.path / "clips" / SET
    assert ClipSet(clips).ids == ["1", "2"]
    assert [(row["id"], row["reason"]) for row in read_rejects(clips)] == [("3", "missing")]
    assert project.planned_by_dvc(STAGE) == project.planned(f"clips/{SET}") == set()
    assert f"path: {names['videos']}" in (project.path / "dvc.lock").read_text()

    write_video(data / "videos/page/3.mp4", 3)
    project.set("clips.seed", 1)
    message = project.snakemake(f"clips/{SET}", ok=False)
    assert f"clip_sets.{SET}.videos: what lies at {served.url}/videos is not what" in message
    assert f"python -m pipeline pointer {project.path / names['videos']}" in message
    assert "is not what inputs/videos" in project.run("python", "-m", "pipeline", "doctor", ok=False)
    project.run("python", "-m", "pipeline", "pointer", *names.values())
    project.set("clips.seed", 0)
    assert project.planned_by_dvc(STAGE) == project.planned(f"clips/{SET}") == {STAGE}
    project.snakemake(f"clips/{SET}")
    assert ClipSet(clips).ids == ["1", "2", "3"] and read_rejects(clips) == []
    assert project.planned_by_dvc(STAGE) == project.planned(f"clips/{SET}") == set()
    served.end()
    message = project.run("python", "-m", "pipeline", "preprocess", "--set", SET, ok=False)
    assert f"clip_sets.{SET}.listing: {served.url}/listing.csv cannot be listed" in message and "Trace" not in message
    assert ClipSet(clips).ids == ["1", "2", "3"]


@pytest.mark.parametrize("shards", [1, 2])
def test_data_behind_a_pointer_that_changes_while_it_is_read_leaves_nothing(project, data, tmp_path, shards):
    """A row that counts as missing then must not stay so when the file is there again."""
    served = FtpServer(data)
    video = data / "videos/page/3.mp4"
    write_video(video, 3)
    pointer = project.path / "inputs/videos.pointer.yaml"
    project.run("python", "-m", "pipeline", "pointer", str(pointer), "--url", f"{served.url}/videos")
    project.set(f"clip_sets.{SET}.listing", str(data / "listing.csv"))
    project.set(f"clip_sets.{SET}.videos", "inputs/videos.pointer.yaml")
    if shards > 1:
        project.set("runtime.shards.preprocess", shards)
    project.set("runtime.workers", 1)
    project.set("clips.rows_per_part", 1)
    decode, away = project.path / "pipeline/data/decode.py", tmp_path / "3.mp4"
    decode.write_text(
        decode.read_text().replace(
            "    with opened(source) as path:\n        return _clips_of",
            f"    import os\n    if id == '1' and not os.path.exists({str(away)!r}):\n"
            f"        os.rename({str(video)!r}, {str(away)!r})\n"
            "    with opened(source) as path:\n        return _clips_of",
        )
    )
    message = project.snakemake(f"clips/{SET}", ok=False)
    assert f"clip_sets.{SET}.videos: what lies at {served.url}/videos is not what" in message
    assert "No part that was made before counts" in message and not (project.path / "clips" / SET).exists()
    shutil.copy2(away, video)
    project.snakemake(f"clips/{SET}")
    assert ClipSet(project.path / "clips" / SET).ids == ["1", "2", "3"]
    served.end()


@pytest.mark.parametrize(("change", "when"), [("the folder is empty", "before"), ("a file is away", "after")])
def test_what_another_shard_made_of_changed_data_does_not_count(project, data, change, when):
    """Shard 0 looks, and finds the change before the join does; the other ran ``when``, or waited in a queue."""
    served = FtpServer(data)
    write_video(data / "videos/page/3.mp4", 3)
    pointer = project.path / "inputs/videos.pointer.yaml"
    project.run("python", "-m", "pipeline", "pointer", str(pointer), "--url", f"{served.url}/videos")
    project.set(f"clip_sets.{SET}.listing", str(data / "listing.csv"))
    project.set(f"clip_sets.{SET}.videos", "inputs/videos.pointer.yaml")
    project.set("runtime.shards.preprocess", 2)
    project.set("clips.rows_per_part", 1)
    place = data / ("videos/page/2.mp4" if change == "a file is away" else "videos/page")
    away = place.rename(data / "away")
    (data / "videos/page").mkdir(exist_ok=True)
    other = ("python", "-m", "pipeline.engine.job", STAGE, "--shard", "1-of-2")
    if when == "before":
        project.run(*other)
    assert f"clip_sets.{SET}.videos: " in project.snakemake(f"clips/{SET}", ok=False)
    if when == "after":
        project.run(*other, ok=False)
    if place.is_dir():
        place.rmdir()
    away.rename(place)
    project.snakemake(f"clips/{SET}")
    assert ClipSet(project.path / "clips" / SET).ids == ["1", "2", "3"]
    assert project.planned_by_dvc(STAGE) == project.planned(f"clips/{SET}") == set()
    served.end()


def test_folder_that_vanishes_half_way_is_an_error_and_the_next_run_goes_on(project, data, tmp_path):
    """Rows that were not reached are no rejects: the clips are those of an undisturbed run."""
    ids = [str(number) for number in range(12)]
    for id in ids:
        write_video(data / f"videos/page/{id}.mp4", int(id))
    write_listing(data / "listing.csv", ids)
    shutil.copytree(data, tmp_path / "kept")
    for name in ("listing", "videos"):
        project.set(f"clip_sets.{SET}.{name}", str(data / ("listing.csv" if name == "listing" else "videos")))
    project.set("clips.rows_per_part", 2)
    decode = project.path / "pipeline/data/decode.py"
    whole = decode.read_text()
    decode.write_text(
        whole.replace(
            "    with opened(source) as path:\n        return _clips_of",
            "    if id == '7':\n        import shutil; shutil.rmtree(source.folder.place, ignore_errors=True)\n"
            "    with opened(source) as path:\n        return _clips_of",
        )
    )
    assert decode.read_text() != whole
    message = project.run("python", "-m", "pipeline", "preprocess", "--set", SET, ok=False)
    assert f"clip_sets.{SET}.videos" in message and "is gone or cannot be reached" in message
    decode.write_text(whole)
    shutil.copytree(tmp_path / "kept/videos", data / "videos")
    project.dvc("repro", "--single-item", STAGE)
    clips = project.path / "clips" / SET
    assert ClipSet(clips).ids == ids and read_rejects(clips) == []
