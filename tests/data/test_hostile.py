"""Videos that cannot be used: each ends in the rejects with its reason, and the good ones beside them in the clips."""

import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

HEADER = ["videoid", "contentUrl", "duration", "page_dir", "name"]
CAPTION = 'good clip, caption with <b>markup</b>, "quotes", a comma,\nand a second line'


def damaged(make, path):
    """Zeros where pictures were; the index at the end is whole."""
    data = bytearray(make.encode(path).read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    path.write_bytes(data)


def cut(make, path, container=None, part=0.6, codec="libx264"):
    data = make.encode(path, codec=codec, container=container).read_bytes()
    path.write_bytes(data[: int(len(data) * part)])


def audio_only(make, path):
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=44100, layout="mono")
        for k in range(40):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, k * 1024
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


CASES = {  # id -> what makes the file, expected reason or None for a clip
    "good": (lambda make, path: make.encode(path), None),
    "damaged": (damaged, "undecodable"),
    "empty": (lambda make, path: path.touch(), "empty"),
    "text": (lambda make, path: path.write_text("this is not a video"), "not_a_video"),
    "zeros": (lambda make, path: path.write_bytes(bytes(20_000)), "not_a_video"),
    "noise": (lambda make, path: path.write_bytes(np.random.default_rng(0).bytes(20_000)), "not_a_video"),
    "picture": (lambda make, path: path.write_bytes(cv2.imencode(".png", np.zeros((40, 40)))[1]), "not_a_video"),
    "audio": (audio_only, "not_a_video"),
    "folder": (lambda make, path: path.mkdir(), "missing"),
    "missing": (lambda make, path: None, "missing"),
    "three_frames": (lambda make, path: make.encode(path, 3), "too_short"),
    "fifteen_frames": (lambda make, path: make.encode(path, 15), "too_short"),
    "sixteen_frames": (lambda make, path: make.encode(path, 16), None),
    "hevc_ten_frames": (
        lambda make, path: make.encode(path, 10, "libx265", options={"x265-params": "log-level=none"}), "too_short",
    ),
    "ten_bit": (lambda make, path: make.encode(path, 30, pixels="yuv420p10le", size=(50, 50)), None),
    "cut_without_index": (cut, "not_a_video"),
    "cut_with_index": (lambda make, path: cut(make, path, {"movflags": "faststart"}), "undecodable"),
    "cut.avi": (lambda make, path: cut(make, path, codec="mpeg4"), "undecodable"),
    "cut_late.avi": (lambda make, path: cut(make, path, codec="mpeg4", part=0.95), "undecodable"),
    "portrait": (lambda make, path: make.encode(path, size=(96, 64)), None),
    "loop": (lambda make, path: path.symlink_to(path), "bad_row"),
    "x" * 300: (lambda make, path: None, "any"),  # longer than a file name may be
}  # fmt: skip
ROWS = {  # rows whose trouble lies in the listing
    "no_id": (["", "", "", "bad", "x"], "bad_row"),
    "climbs": (["../../secret", "", "", "bad", "x"], "unsafe_path"),
    "folder_climbs": (["secret1", "", "", "..", "x"], "unsafe_path"),
    "absolute": (["secret2", "", "", "/", "x"], "unsafe_path"),
    "twice": (["good", "", "", "bad", "the same video listed twice"], "duplicate_id"),
    "missing_twice": (["missing", "", "", "bad", "x"], "duplicate_id"),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, make):
    """All cases in one listing, preprocessed once by two workers."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "videos/bad").mkdir(parents=True)
    make.encode(folder / "secret.mp4")
    rows = []
    for id, (build, _) in CASES.items():
        build(make, folder / "videos/bad" / (id if "." in id else f"{id}.mp4"))
        rows.append([id, "", "PT00H00M01S", "bad", CAPTION])
    rows += [row for row, _ in ROWS.values()]
    listing = make.write_csv(folder / "results_2M_train.csv", HEADER, rows)
    total, clips, rejects = make.take("webvid", listing, folder / "videos", folder / "out", workers=2)
    return SimpleNamespace(total=total, clips=clips, rejects=rejects, rows=rows)


def test_clips_and_rejects_are_all_rows(hostile):
    assert hostile.total == len(hostile.rows) == len(hostile.clips) + len(hostile.rejects)
    assert all(item["reason"] and item["detail"] for item in hostile.rejects.values())


@pytest.mark.parametrize("number", range(len(CASES) + len(ROWS)), ids=[name[:20] for name in [*CASES, *ROWS]])
def test_each_case_has_its_reason(hostile, number):
    expected = [*CASES.values(), *ROWS.values()][number][1]
    found = hostile.rejects.get(number)
    if expected is None:
        id = hostile.rows[number][0]
        assert found is None and id in hostile.clips.ids
        position = hostile.clips.ids.index(id)
        assert hostile.clips.frames([position]).shape == (1, 16, 32, 32, 3)
        assert hostile.clips.captions[position] == CAPTION
    else:
        assert found is not None and found["reason"] and expected in (found["reason"], "any")


@pytest.mark.parametrize("case", ["cut.avi", "cut_late.avi", "damaged"])
def test_quick_check_never_makes_up_frames(tmp_path, make, case):
    """``check: window`` may take a clip from the good part of a damaged file; its frames are real ones."""
    from pipeline.data.decode import Reject, decode_video
    from pipeline.data.schema import decode_frames

    whole, broken = tmp_path / f"whole_{case}", tmp_path / (case if "." in case else f"{case}.mp4")
    make.encode(whole.with_suffix(broken.suffix), codec="mpeg4" if broken.suffix == ".avi" else "libx264")
    CASES[case][0](make, broken)
    reference = make.decode_all(whole.with_suffix(broken.suffix))
    try:
        (row,) = decode_video(broken, "id", make.clip_rule(check="window", height=48, width=64))
    except Reject as reject:
        assert reject.reason in ("undecodable", "too_short", "not_a_video")
        return
    taken = [row["start_frame"] + k * row["stride"] for k in range(16)]
    wrong = np.abs(decode_frames(row["frames"]).astype(int) - reference[taken]).reshape(16, -1).max(1) > 0
    assert not wrong.any()


# --- the project's own samples ---


def test_shared_hostile_set(shared_data, tmp_path, make):
    folder = shared_data / "webvid_hostile"
    total, clips, rejects = make.take(
        "webvid", folder / "results_2M_train.csv", folder / "videos", tmp_path / "out", workers=2
    )
    assert total == 9 and clips.ids == ["5", "8"] and clips.captions[1] == CAPTION
    assert {row: item["reason"] for row, item in rejects.items()} == {
        0: "undecodable", 1: "empty", 2: "not_a_video", 3: "too_short", 5: "too_short", 6: "missing", 8: "duplicate_id",
    }  # fmt: skip


def test_shared_samples_of_every_layout_give_clips_equal_to_an_independent_decode(shared_data, tmp_path, make):
    picture = SimpleNamespace(id="image", caption="prompt", folder=None)
    webvid, ucf101, bench = (shared_data / name for name in ("webvid", "ucf101", "imagebench"))
    for layout, listing, videos, columns in (
        ("webvid", webvid / "results_2M_train.csv", webvid / "videos", make.webvid),
        ("ucf101", ucf101 / "ucfTrainTestlist/testlist01.txt", ucf101 / "UCF-101", picture),
        ("imagebench", bench / "prompts.csv", bench / "images", picture),
    ):
        total, clips, rejects = make.take(
            layout, listing, videos, tmp_path / layout, columns, workers=os.cpu_count() or 1
        )
        assert rejects == {} and total == len(clips) > 0
        assert clips.frames([0]).shape == (1, 1 if layout == "imagebench" else 16, 32, 32, 3)
    assert clips.captions[clips.ids.index("055.jpg")] == "A cat lying on a bed."
    _, clips, _ = make.take(
        "ucf101", ucf101 / "ucfTrainTestlist/testlist01.txt", ucf101 / "UCF-101", tmp_path / "full", picture,
        height=240, width=320, stride_max=1,
    )  # fmt: skip
    reference = make.decode_all(ucf101 / "UCF-101" / clips.sources[0])
    frames = clips.frames([0])[0]
    start = int(np.abs(reference.astype(int) - frames[0]).mean((1, 2, 3)).argmin())
    assert np.array_equal(frames, reference[start : start + 16])
