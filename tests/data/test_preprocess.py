"""A listing into clips and rejects: nothing is lost, nothing depends on workers or order, memory stays small."""

import itertools
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from pipeline.data.listings import Row
from pipeline.data.preprocess import make_parts, merge_parts
from pipeline.data.schema import ClipSet, read_rejects
from pipeline.engine.parts import Parts
from pipeline.errors import PipelineError
from pipeline.stages import preprocess as stage_module
from tests.helpers.parted import files_of, run_parted

HEADER = ["videoid", "page_dir", "name"]
SCENES = {"a": 60, "b": 48, "c": 31, "d": 20, "e": 10, "f": 60, "g": 100}  # frames of each video


@pytest.fixture(scope="module")
def source(tmp_path_factory, make):
    """Seven videos, one of them too short; a listing that also names one that is not there and one twice."""
    folder = tmp_path_factory.mktemp("source")
    for seed, (id, frames) in enumerate(SCENES.items()):
        make.encode(folder / "videos/page" / f"{id}.mp4", frames, seed=seed)
    rows = [[id, "page", f"scene {id}"] for id in SCENES] + [["gone", "page", "x"], ["a", "page", "again"]]
    return SimpleNamespace(folder=folder, videos=folder / "videos", rows=rows)


def clips_by_id(clips: ClipSet) -> dict:
    return {id: (clips.captions[k], clips.strides[k], clips.encoded(k)) for k, id in enumerate(clips.ids)}


def test_every_row_ends_in_the_clips_or_with_a_reason_in_the_rejects(tmp_path, source, make):
    listing = make.write_csv(tmp_path / "a.csv", HEADER, source.rows)
    total, clips, rejects = make.take("webvid", listing, source.videos, tmp_path / "out")
    assert total == len(source.rows) == len(clips) + len(rejects)
    assert clips.ids == ["a", "b", "c", "d", "f", "g"]  # the listing's order
    assert {row: item["reason"] for row, item in rejects.items()} == {4: "too_short", 7: "missing", 8: "duplicate_id"}
    assert all(item["detail"] for item in rejects.values())
    assert clips.captions[0] == "scene a" and clips.sources[0] == "page/a.mp4"
    frames = clips.frames(range(len(clips)))
    assert frames.shape == (6, 16, 32, 32, 3) and frames.dtype == np.uint8


def test_shorter_stride_where_the_source_is_too_short_is_recorded_beside_the_asked_one(tmp_path, source, make):
    listing = make.write_csv(tmp_path / "a.csv", HEADER, source.rows[:7])
    make.take("webvid", listing, source.videos, tmp_path / "out", stride_min=3)
    table = pa.parquet.read_table(tmp_path / "out/part-00000.parquet").to_pylist()
    found = {row["id"]: (row["stride"], row["requested_stride"]) for row in table}
    assert found == {"a": (3, 3), "b": (3, 3), "c": (2, 3), "d": (1, 3), "f": (3, 3), "g": (3, 3)}
    assert all(row["fps"] == pytest.approx(row["native_fps"] / row["stride"]) for row in table)


def test_windows_of_a_video_are_clips_of_their_own_and_the_sum_still_holds(tmp_path, source, make):
    listing = make.write_csv(tmp_path / "a.csv", HEADER, source.rows)
    total, clips, rejects = make.take("webvid", listing, source.videos, tmp_path / "out", windows=3)
    bases = [id.split("#")[0] for id in clips.ids]
    assert len(set(bases)) + len(rejects) == total
    assert clips.ids[:3] == ["a", "a#1", "a#2"] and len(clips) == 3 * 6
    _, single, _ = make.take("webvid", listing, source.videos, tmp_path / "single")
    assert clips_by_id(single).items() <= clips_by_id(clips).items()


def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path, source, make):
    listing = make.write_csv(tmp_path / "a.csv", HEADER, source.rows)
    for workers in (1, 3):
        make.take("webvid", listing, source.videos, tmp_path / str(workers), workers=workers, rows_per_part=2)
    one, three = (sorted((tmp_path / name).iterdir()) for name in ("1", "3"))
    assert [path.name for path in one] == [
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
        "part-00003.parquet",  # the fifth would hold the last row of the listing, which is rejected
        "rejects.parquet",
    ]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in three]


def test_a_clip_does_not_depend_on_the_order_of_the_listing(tmp_path, source, make):
    rows = source.rows[:7]
    _, forward, _ = make.take("webvid", make.write_csv(tmp_path / "a.csv", HEADER, rows), source.videos, tmp_path / "a")
    _, back, _ = make.take(
        "webvid", make.write_csv(tmp_path / "b.csv", HEADER, rows[::-1]), source.videos, tmp_path / "b"
    )
    assert back.ids == forward.ids[::-1]
    assert clips_by_id(back) == clips_by_id(forward)


def test_a_listing_of_millions_is_read_as_it_is_worked_off(tmp_path):
    """Rows are taken a few at a time, so memory holds neither the listing nor waiting clips."""
    taken = []
    bad = ("bad_row", "made up")

    def rows():
        for number in itertools.count():
            if number == 400:
                return
            taken.append(number)
            yield Row(number, str(number), "", "", problem=bad)

    class Watch:
        ahead = 0

    from pipeline.data import preprocess as module

    original = module._write_part

    def watch(folder, answers):
        def watched():
            for row, answer in answers:
                Watch.ahead = max(Watch.ahead, len(taken) - row.number)
                yield row, answer

        original(folder, watched())

    parts = Parts(tmp_path / "parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_write_part", watch)
        made = make_parts(rows(), tmp_path, None, False, parts, 64, 2)
    assert made == 7
    assert merge_parts(parts.finished(made), tmp_path / "out") == (400, 0, {"bad_row": 400})
    assert 0 < Watch.ahead <= 4 * 2 + 1


def test_memory_does_not_grow_with_the_number_of_clips(tmp_path, monkeypatch):
    """The loop with its writers on 60 and on 600 clips of 160 kB: the peak is that of some row groups."""
    from pipeline.data import preprocess as module

    def fake(work, rows, workers, seconds):
        for row in rows:
            pictures = [bytes([k % 256]) * 10_000 for k in range(16)]
            yield row, [clip_row(row.id, pictures)]

    def clip_row(id, pictures):
        numbers = dict.fromkeys(
            (
                "native_fps",
                "fps",
                "stride",
                "requested_stride",
                "start_frame",
                "window",
                "source_height",
                "source_width",
            ),
            1,
        )
        texts = dict.fromkeys(("source", "caption", "label", "decoder", "transform"), "")
        return {"id": id, **texts, **numbers, "frames": pictures}

    monkeypatch.setattr(module, "map_in_order", fake)
    peaks = []
    for count in (60, 600):
        rows = (Row(number, str(number), "", "") for number in range(count))
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        parts = Parts(tmp_path / f"parts-{count}")
        made = make_parts(rows, tmp_path, None, False, parts, 256, 1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert pa.total_allocated_bytes() - before < 8e6
        merge_parts(parts.finished(made), tmp_path / str(count))
        assert len(ClipSet(tmp_path / str(count))) == count
    assert peaks[1] < 1.5 * peaks[0] and peaks[1] < 8e6  # all clips of the second together: 96 MB


# --- the stage ---


class Metrics(dict):
    def metrics(self, values):
        self.update(values)


def run_stage(source, listing, out, limit=None, layout="webvid", **shards):
    clips = SimpleNamespace(
        seed=0, frames=16, height=32, width=32, check="whole", rows_per_part=4,
        codec=SimpleNamespace(format="png", quality=95),
    )  # fmt: skip
    spec = SimpleNamespace(
        layout=layout, columns=SimpleNamespace(id="videoid", caption="name", folder="page_dir"), windows=1, limit=limit,
        frame_rule=SimpleNamespace(kind="fixed_fps", fps=15.0),
    )  # fmt: skip
    stage = SimpleNamespace(
        args=SimpleNamespace(set="own"), params=SimpleNamespace(clips=clips, clip_sets={"own": spec}), workers=1,
        inputs=[listing, source.videos], outputs=[out], record=Metrics(), log=SimpleNamespace(info=lambda *_: None),
    )  # fmt: skip
    run_parted(stage_module, stage, **shards)
    return stage.record


def test_stage_records_counts_and_reasons_and_obeys_the_rule_and_the_limit(tmp_path, source, make):
    listing = make.write_csv(tmp_path / "a.csv", HEADER, source.rows)
    counts = run_stage(source, listing, tmp_path / "out")
    assert counts == {
        "rows": 9, "clips": 6, "rejects": 3, "rejects_too_short": 1, "rejects_missing": 1, "rejects_duplicate_id": 1,
    }  # fmt: skip
    clips = ClipSet(tmp_path / "out")
    assert clips.fps[0] == pytest.approx(15) and clips.strides[0] == 2 and clips.strides[3] == 1
    assert run_stage(source, listing, tmp_path / "few", limit=5)["rows"] == 5
    assert ClipSet(tmp_path / "few").ids == ["a", "b", "c", "d"]


def test_bytes_do_not_depend_on_the_number_of_shards_or_their_order(tmp_path, source, make):
    listing = make.write_csv(tmp_path / "a.csv", HEADER, source.rows)
    run_stage(source, listing, tmp_path / "whole")
    counts = run_stage(source, listing, tmp_path / "two", shards=2, order=[1, 0])
    assert counts["rows"] == 9 and counts["clips"] == 6
    run_stage(source, listing, tmp_path / "many", shards=7, order=[3, 0, 6, 2, 1, 5, 4])  # more than there are parts
    whole = files_of(tmp_path / "whole")
    assert len(whole) == 3 and files_of(tmp_path / "two") == whole == files_of(tmp_path / "many")


def test_a_shard_looks_at_the_paths_of_its_own_rows_alone(tmp_path, source, make, monkeypatch):
    from pipeline.data import listings

    looked, original = [], listings._unsafe
    monkeypatch.setattr(listings, "_unsafe", lambda root, path: looked.append(path) or original(root, path))
    listing = make.write_csv(tmp_path / "a.csv", HEADER, source.rows)
    run_stage(source, listing, tmp_path / "out", shards=3)
    assert sorted(looked) == sorted({f"page/{row[0]}.mp4" for row in source.rows}), "each once, over all shards"


def test_a_lost_worker_in_a_folder_that_is_gone_is_an_error_not_a_reject(tmp_path, monkeypatch):
    from pipeline.data import preprocess as module
    from pipeline.data.storage import Folder

    monkeypatch.setattr(module, "map_in_order", lambda work, rows, *_: ((row, module.LOST) for row in rows))
    rows, parts = [Row(0, "a", "a.mp4", "")], Parts(tmp_path / "parts")
    with pytest.raises(PipelineError, match=r"clip_sets\.own\.videos"):
        make_parts(rows, Folder(str(tmp_path / "gone"), "clip_sets.own.videos"), None, False, parts, 4, 1)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/other.mp4").touch()
    assert make_parts(rows, Folder(str(tmp_path / "there"), "clip_sets.own.videos"), None, False, parts, 4, 1) == 1
    assert merge_parts(parts.finished(1), tmp_path / "out") == (1, 0, {"undecodable": 1})


def test_stage_without_one_clip_fails_with_counts_and_keeps_the_reasons(tmp_path, source, make, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listing = make.write_csv(
        tmp_path / "a.csv", HEADER, [["e", "page", "x"], ["gone", "page", "y"], ["gone", "page", "y"]]
    )
    with pytest.raises(PipelineError, match=r"none of 3 rows gave a clip \(1 duplicate_id, 1 missing, 1 too_short\)"):
        run_stage(source, listing, tmp_path / "out")
    assert (tmp_path / "logs/rejects-own.csv").read_text().count("\n") == 4
    assert len(read_rejects(tmp_path / "out")) == 3


def test_empty_listing_fails_by_that_name(tmp_path, source, make, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match="the listing is empty"):
        run_stage(source, make.write_csv(tmp_path / "a.csv", HEADER, []), tmp_path / "out")
