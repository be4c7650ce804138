"""Which frames a clip takes, that they are the source's own, and how they are resized and cut."""

import collections

import cv2
import numpy as np
import pytest

from pipeline.data.decode import Reject, choose_windows, decode_picture, decode_video, resize_and_crop
from pipeline.data.schema import decode_frames
from pipeline.data.video_file import write_video

IDS = [f"clip{number}" for number in range(300)]


def test_uniform_stride_takes_every_stride_about_equally_often_and_starts_everywhere(make):
    places = [choose_windows(make.clip_rule(), id, 60, 30.0)[0] for id in IDS]
    strides = collections.Counter(place["stride"] for place in places)
    assert set(strides) == {1, 2, 3} and min(strides.values()) > 70
    assert all(place["start"] >= 0 and place["start"] + 15 * place["stride"] < 60 for place in places)
    starts = {place["start"] for place in places if place["stride"] == 1}
    assert min(starts) <= 2 and max(starts) >= 42


@pytest.mark.parametrize(("native", "stride"), [(30.0, 10), (9.0, 3), (29.97, 10), (24.0, 8), (2.0, 1), (3.0, 1)])
def test_fixed_fps_takes_the_stride_nearest_to_the_asked_rate(make, native, stride):
    rule = make.clip_rule(kind="fixed_fps", fps=3.0)
    assert {choose_windows(rule, id, 400, native)[0]["stride"] for id in IDS[:20]} == {stride}


@pytest.mark.parametrize(("total", "stride"), [(16, 1), (30, 1), (31, 2), (45, 2), (46, 3), (60, 3)])
def test_source_too_short_for_the_stride_gets_the_largest_that_fits_and_says_so(make, total, stride):
    (place,) = choose_windows(make.clip_rule(stride_min=3), "a", total, 30.0)
    assert (place["stride"], place["requested"]) == (stride, 3)
    assert place["start"] + 15 * stride <= total - 1


def test_fewer_frames_than_a_clip_is_a_reject(make):
    with pytest.raises(Reject) as reject:
        choose_windows(make.clip_rule(), "a", 15, 30.0)
    assert reject.value.reason == "too_short" and "15 frames" in str(reject.value)


def test_windows_are_distinct_and_the_first_does_not_depend_on_how_many(make):
    for id in IDS[:40]:
        four = choose_windows(make.clip_rule(windows=4), id, 60, 30.0)
        assert len({(place["start"], place["stride"]) for place in four}) == 4
        assert choose_windows(make.clip_rule(), id, 60, 30.0) == four[:1]
    assert len(choose_windows(make.clip_rule(windows=4), "a", 16, 30.0)) == 1  # a clip long: there is one place only


def test_choice_depends_on_seed_and_id(make):
    one = [choose_windows(make.clip_rule(), id, 300, 30.0) for id in IDS]
    other = [choose_windows(make.clip_rule(seed=1), id, 300, 30.0) for id in IDS]
    assert sum(a != b for a, b in zip(one, other, strict=True)) > 290
    assert len({place["start"] for (place,) in one}) > 100


@pytest.mark.parametrize(("name", "codec", "options"), [
    ("a.mp4", "libx264", {"bf": "3", "g": "12"}),
    ("a.avi", "mpeg4", {}),
    ("a.mkv", "libx264", {}),
    ("a.webm", "libvpx", {"deadline": "realtime"}),
])  # fmt: skip
@pytest.mark.parametrize("check", ["whole", "window"])
def test_frames_equal_those_of_an_independent_decoder_to_the_pixel(tmp_path, make, name, codec, options, check):
    path = make.encode(tmp_path / name, codec=codec, options=options)
    reference = make.decode_all(path)
    rule = make.clip_rule(height=48, width=64, windows=3, check=check)
    rows = decode_video(path, "id", rule)
    assert [row["window"] for row in rows] == [0, 1, 2]
    for row in rows:
        taken = [row["start_frame"] + k * row["stride"] for k in range(16)]
        assert np.array_equal(decode_frames(row["frames"]), reference[taken])
        assert row["fps"] == pytest.approx(30 / row["stride"]) and row["native_fps"] == pytest.approx(30)
        assert (row["source_height"], row["source_width"]) == (48, 64)


@pytest.mark.parametrize("seed", range(12))
def test_last_frames_of_an_avi_are_its_own(tmp_path, make, seed):
    """After a seek decord gives another picture for the last frames of such files."""
    path = tmp_path / "a.avi"
    frames = np.random.default_rng(seed).integers(0, 255, (48, 4, 4, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    write_video(path, frames, 9, {"crf": "10", "preset": "veryfast"})
    (row,) = decode_video(path, f"id{seed}", make.clip_rule(kind="fixed_fps", fps=3))
    assert row["stride"] == 3
    taken = [row["start_frame"] + k * 3 for k in range(16)]
    assert np.array_equal(decode_frames(row["frames"]), make.decode_all(path)[taken])


@pytest.mark.parametrize(("size", "how", "name"), [
    ((64, 96), cv2.INTER_AREA, "INTER_AREA"), ((36, 54), cv2.INTER_AREA, "INTER_AREA"),
    ((34, 52), cv2.INTER_LINEAR, "INTER_LINEAR"), ((24, 36), cv2.INTER_CUBIC, "INTER_CUBIC"),
    ((32, 64), None, "INTER_AREA"),
])  # fmt: skip
def test_resized_clip_is_the_independent_frames_with_the_written_transform(tmp_path, make, size, how, name):
    path = make.encode(tmp_path / "a.mp4", size=size)
    (row,) = decode_video(path, "id", make.clip_rule())
    taken = make.decode_all(path)[row["start_frame"] : row["start_frame"] + 15 * row["stride"] + 1 : row["stride"]]
    wide = round(size[1] * 32 / size[0])
    resized = taken if how is None else [cv2.resize(frame, (wide, 32), interpolation=how) for frame in taken]
    left = (wide - 32) // 2
    assert np.array_equal(decode_frames(row["frames"]), np.stack([frame[:, left : left + 32] for frame in resized]))
    assert (row["source_height"], row["source_width"]) == size and name in row["transform"]


@pytest.mark.parametrize("shape", [(64, 192), (192, 64), (16, 48), (100, 100), (33, 47), (32, 32)])
def test_picture_is_scaled_to_cover_and_cut_from_its_centre(shape):
    """A thing as wide as the short side, in the centre, fills the result; what lies beside it is gone."""
    height, width = shape
    side = min(shape)
    frames = np.zeros((2, *shape, 3), dtype=np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    frames[:, top : top + side, left : left + side] = 200
    result = resize_and_crop(frames, 32, 32)
    assert result.shape == (2, 32, 32, 3) and result.dtype == np.uint8
    assert (result[:, 1:-1, 1:-1] > 190).all()


def test_aspect_ratio_is_kept():
    """A circle stays one: as many lit rows as columns."""
    picture = cv2.circle(np.zeros((90, 160, 3), np.uint8), (80, 45), 30, (255, 255, 255), -1)
    lit = resize_and_crop(picture[None], 32, 32)[0, ..., 0] > 127
    assert abs(int(lit.any(0).sum()) - int(lit.any(1).sum())) <= 1
    wide = resize_and_crop(picture[None], 36, 64)[0, ..., 0] > 127
    assert wide.shape == (36, 64) and abs(int(wide.any(0).sum()) - int(wide.any(1).sum())) <= 1


def test_ten_bit_hevc_is_decoded_and_its_frames_are_those_asked_for(tmp_path, make):
    """Chroma of 10 bit may be upsampled another way; the order of frames may not differ."""
    path = make.encode(
        tmp_path / "a.mp4", 40, "libx265", pixels="yuv420p10le", options={"x265-params": "log-level=none"}
    )
    (row,) = decode_video(path, "id", make.clip_rule(height=48, width=64))
    reference = make.decode_all(path).astype(int)
    for k, frame in enumerate(decode_frames(row["frames"]).astype(int)):
        nearest = np.abs(reference - frame).mean((1, 2, 3)).argmin()
        assert nearest == row["start_frame"] + k * row["stride"]


def test_jpeg_frames_are_smaller_and_near_the_png_ones(tmp_path, make):
    path = make.encode(tmp_path / "a.mp4")
    (png,) = decode_video(path, "id", make.clip_rule())
    (jpeg,) = decode_video(path, "id", make.clip_rule(codec="jpeg", quality=95))
    assert sum(map(len, jpeg["frames"])) < sum(map(len, png["frames"]))
    assert jpeg["frames"][0][:2] == b"\xff\xd8" and png["frames"][0][:4] == b"\x89PNG"
    difference = np.abs(decode_frames(jpeg["frames"]).astype(int) - decode_frames(png["frames"]))
    assert 0 < difference.mean() < 25


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_colour_and_transparent_pictures_become_one_rgb_frame(tmp_path, make, channels):
    picture = np.full((40, 40, channels), 255, np.uint8)
    picture[..., 0] = 10  # blue in OpenCV's order
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    (row,) = decode_picture(tmp_path / "a.png", "id", make.clip_rule())
    frame = decode_frames(row["frames"])
    assert frame.shape == (1, 32, 32, 3) and row["fps"] == 3.0 and row["native_fps"] == 0.0
    assert (frame[0, 0, 0] == ([10, 10, 10] if channels == 1 else [255, 255, 10])).all()
