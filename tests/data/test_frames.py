"""Frames by number: the quick way gives what reading one after another gives, whatever the encoder did."""

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.data import frames as module
from pipeline.data.frames import NotAVideo, Undecodable, Video

ENCODERS = {  # x264's options that decide what refers to what, where a decoder may start, and in what order frames come
    "usual": "keyint=24:bframes=3",
    "pyramid": "keyint=24:bframes=7:b-pyramid=normal:ref=5",
    "no_pyramid": "keyint=24:bframes=3:b-pyramid=none",
    "no_b": "keyint=24:bframes=0",
    "open_gop": "keyint=12:bframes=3:open-gop=1:scenecut=0",
    "open_gop_deep": "keyint=9:min-keyint=1:bframes=5:open-gop=1:b-pyramid=normal",
    "intra_refresh": "keyint=24:intra-refresh=1:bframes=0",
    "interlaced": "keyint=24:bframes=3:tff=1",
    "short": "keyint=2:bframes=2",
    "all_intra": "keyint=1",
    "long": "keyint=250:bframes=3:scenecut=0",
    "no_cabac": "keyint=24:bframes=3:cabac=0:weightp=0",
}


def numbers_of(total: int, seed: int) -> list[int]:
    """Sixteen frames of one window."""
    generator = np.random.default_rng(seed)
    stride = int(generator.integers(1, (total - 1) // 15 + 1))
    start = int(generator.integers(0, total - 15 * stride))
    return [start + stride * k for k in range(16)]


def one_after_another(path) -> np.ndarray:
    """By PyAV without a seek, for what other decoders show in other colours: interlaced pictures."""
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


@pytest.fixture
def only_quick(monkeypatch):
    """Reading from the start is forbidden: what comes has come the quick way."""

    def refuse(*_):
        raise AssertionError("read from the start")

    monkeypatch.setattr(Video, "_read_from_start", refuse)


def encode(make, path, options: str, frames: int = 80):
    return make.encode(path, frames, options={"x264-params": options})


@pytest.mark.parametrize("options", ENCODERS.values(), ids=ENCODERS)
def test_frames_are_those_of_an_independent_decoder_that_starts_at_the_first(tmp_path, make, options):
    path = encode(make, tmp_path / "a.mp4", options)
    reference = one_after_another(path) if "tff" in options else make.decode_all(path)
    for seed in range(12):
        numbers = numbers_of(len(reference), seed)
        with Video(path) as video:
            assert video.total == len(reference) == 80
            found = video.read(numbers)
        assert sorted(found) == numbers
        assert all(np.array_equal(found[number], reference[number]) for number in numbers)


@pytest.mark.parametrize("name", ["usual", "pyramid", "no_pyramid", "no_b", "open_gop", "long", "all_intra"])
def test_usual_files_are_read_the_quick_way(tmp_path, make, name, only_quick):
    path = encode(make, tmp_path / "a.mp4", ENCODERS[name])
    for seed in range(6):
        with Video(path) as video:
            assert len(video.read(numbers_of(80, seed))) == 16


def test_two_windows_far_apart_and_in_any_order_are_read_in_one_call(tmp_path, make, only_quick):
    path = encode(make, tmp_path / "a.mp4", ENCODERS["usual"], 120)
    numbers = [*range(100, 116), *range(5, 21)]
    with Video(path) as video:
        found = video.read(numbers)
    reference = make.decode_all(path)
    assert all(np.array_equal(found[number], reference[number]) for number in numbers)


def test_quick_way_decodes_less(tmp_path, make, monkeypatch):
    """From the keyframe before the window on, and of what it does not want only what others refer to."""
    path = encode(
        make, tmp_path / "a.mp4", "keyint=40:min-keyint=40:bframes=3:b-adapt=0:scenecut=0:b-pyramid=none", 120
    )
    decoded = []
    monkeypatch.setattr(module, "_require_sound", lambda frame: decoded.append(frame.pts))
    with Video(path) as video:
        video.read(range(92, 116, 4))
        assert 6 <= len(decoded) <= 16  # 80 to 112, a fourth of which are references, and what waits in the decoder
        decoded.clear()
        video.read(range(92, 116, 4), whole=True)
        assert len(decoded) == 120


def test_first_frame_number_of_a_file_whose_first_pictures_are_cut_away_by_its_edit_list(tmp_path, make):
    """An edit list hides pictures that must be decoded and are not shown: they have no number."""
    whole, part = (
        make.encode(tmp_path / "whole.mp4", 60, options={"x264-params": "keyint=60:bframes=0"}),
        tmp_path / "a.mp4",
    )
    with av.open(str(whole)) as source, av.open(str(part), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is None:
                continue
            shift = 20 * packet.duration
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
            target.mux(packet)
    reference = make.decode_all(whole)
    with Video(part) as video:
        assert video.total == 40
        found = video.read([0, 39])
    assert np.array_equal(found[0], reference[20]) and np.array_equal(found[39], reference[59])


def test_of_several_video_streams_the_best_is_read_and_checked(tmp_path, make):
    """A small preview before the film itself: clips were of the best stream, and their check of the first."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        streams = []
        for height, width in ((24, 32), (48, 64)):
            stream = file.add_stream("libx264", rate=30, options={"crf": "30" if height < 30 else "5"})
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.disposition = av.stream.Disposition.default
            streams.append(stream)
        for k in range(20):
            for stream in streams:
                picture = np.ascontiguousarray(make.moving_picture(20, stream.height, stream.width)[k])
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            file.mux(stream.encode())
    with Video(path) as video:
        assert video.read([0], whole=True)[0].shape == make.decode_all(path).shape[1:] == (48, 64, 3)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_picture_is_turned_as_the_file_says(tmp_path, make, angle):
    """The tag turns anticlockwise, as ffmpeg and decord read it."""
    upright = make.encode(tmp_path / "up.mp4", 20)
    path = tmp_path / "turned.mp4"
    with av.open(str(upright)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        copy.set_display_rotation(angle)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    with Video(path) as video:
        found = video.read([3])[3]
    assert np.array_equal(found, np.rot90(make.decode_all(upright)[3], angle // 90))


def test_every_frame_of_the_shared_samples_is_the_same_by_both_ways(shared_data, make):
    """All files of the project's samples that can be read at all; 10 bit apart, where converters differ in chroma."""
    read = 0
    for path in sorted([*shared_data.glob("*/videos/*/*.mp4"), *shared_data.glob("ucf101/*/*/*.avi")]):
        try:
            with Video(path) as video:
                numbers = numbers_of(video.total, 0) if video.total >= 16 else list(range(video.total))
                found, again = video.read(numbers), video.read(numbers, whole=True)
        except (NotAVideo, Undecodable):
            continue
        assert all(np.array_equal(found[number], again[number]) for number in numbers), path
        if path.parts[-3:] != ("videos", "bad", "5.mp4"):
            reference = make.decode_all(path)
            assert all(np.array_equal(found[number], reference[number]) for number in numbers), path
        read += 1
    assert read >= 12


def test_damage_before_the_window_is_found_where_the_window_depends_on_it(tmp_path, make):
    path = encode(make, tmp_path / "a.mp4", "keyint=40:min-keyint=40:bframes=0:scenecut=0", 80)
    with av.open(str(path)) as file:
        packets = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    position, size = packets[45]
    data[position : position + size] = bytes(size)
    path.write_bytes(data)
    with Video(path) as video:
        assert len(video.read(range(16))) == 16  # the keyframe before it stands on its own
    with pytest.raises(Undecodable), Video(path) as video:
        video.read(range(50, 66))
    with pytest.raises(Undecodable), Video(path) as video:
        video.read(range(16), whole=True)


def test_file_cut_off_behind_its_index_says_how_much_is_there(tmp_path, make):
    path = make.encode(tmp_path / "a.mp4", 60, container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(Undecodable, match=r"it ends early: \d+ of 60 frames"):
        Video(path)


def test_files_are_closed_again(tmp_path, make):
    """A worker opens millions of files."""
    path = make.encode(tmp_path / "a.mp4", 30)
    (tmp_path / "bad.mp4").write_bytes(path.read_bytes()[:2000])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with Video(path) as video:
            video.read([1], whole=True)
        with pytest.raises(NotAVideo):
            Video(tmp_path / "bad.mp4")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
