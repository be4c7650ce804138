"""The embedded world: real files in real layouts, the same from the same seed, and motion that no first frame tells."""

import csv
import dataclasses
import functools
import hashlib
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from pipeline.data.decode import choose_windows
from pipeline.data.listings import read_listing
from pipeline.data.workers import map_in_order
from pipeline.data.world import COLOURS, lay_out, make_video, plan_videos, render
from pipeline.seeding import numpy_generator

MANY = SimpleNamespace(seed=0, size=16, frames=48, fps=9)


def build(folder: Path, settings, workers: int) -> Path:
    folder.mkdir()
    videos = lay_out(folder, settings)
    list(map_in_order(functools.partial(make_video, folder=folder, settings=settings), videos, workers, 60))
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def world(tmp_path_factory, small_world) -> Path:
    return build(tmp_path_factory.mktemp("world") / "world", small_world, workers=1)


def test_same_seed_gives_the_same_bytes_whatever_the_workers_and_another_seed_does_not(world, small_world, tmp_path):
    first = digests(world)
    assert digests(build(tmp_path / "again", small_world, workers=2)) == first
    other = digests(build(tmp_path / "other", SimpleNamespace(**{**vars(small_world), "seed": 1}), workers=1))
    videos = [path for path in first if path.endswith(".mp4")]
    assert videos and all(other[path] != first[path] for path in videos)


def test_encoder_gives_the_same_bytes_every_time(tmp_path, small_world):
    """With x264's macroblock tree, pictures this small come out otherwise once in ten encodings."""
    (plan,) = plan_videos(small_world, "ucf101test", 1)
    for number in range(60):
        make_video(dataclasses.replace(plan, path=f"{number}.mp4"), tmp_path, small_world)
    assert len(set(digests(tmp_path).values())) == 1


def test_more_videos_leave_the_earlier_ones_alone(small_world):
    assert plan_videos(small_world, "webvid", 5) == plan_videos(small_world, "webvid", 9)[:5]


def test_webvid_layout_lists_every_mp4_and_each_is_h264_with_the_stated_frames(world, small_world, make):
    listing, videos = world / "webvid/results_2M_train.csv", world / "webvid/videos"
    with listing.open(newline="") as file:
        assert next(csv.reader(file)) == ["videoid", "contentUrl", "duration", "page_dir", "name"]
    rows = list(read_listing("webvid", listing, videos, make.webvid, "x"))
    assert {row.source for row in rows} == {str(path.relative_to(videos)) for path in videos.rglob("*.mp4")}
    assert len({row.id for row in rows}) == small_world.webvid_clips
    for row in rows:
        with av.open(str(videos / row.source)) as file:
            stream = file.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 32, 32)
            assert stream.average_rate == small_world.fps
            assert sum(1 for _ in file.decode(stream)) == small_world.frames


def test_ucf101_layout_has_a_class_list_and_split_files_that_name_every_video(world, small_world):
    folder, lists = world / "ucf101/UCF-101", world / "ucf101/ucfTrainTestlist"
    classes = dict(reversed(line.split()) for line in (lists / "classInd.txt").read_text().splitlines())
    assert [int(number) for number in classes.values()] == list(range(1, len(classes) + 1))
    train = [line.split() for line in (lists / "trainlist01.txt").read_text().splitlines()]
    test = (lists / "testlist01.txt").read_text().split()
    assert (len(train), len(test)) == (small_world.ucf101_train, small_world.ucf101_test)
    for source, number in train:
        assert classes[source.split("/")[0]] == number
    listed = {source for source, _ in train} | set(test)
    assert listed == {str(path.relative_to(folder)) for path in folder.rglob("*.avi")}
    rows = list(read_listing("ucf101", lists / "testlist01.txt", folder, None, "x"))
    assert {row.label for row in rows} <= set(classes) and all(row.problem is None for row in rows)


def test_imagebench_layout_has_a_prompt_for_every_picture_and_it_names_the_picture_s_colour(world, small_world):
    with (world / "imagebench/prompts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = {path.name for path in (world / "imagebench/images").iterdir()}
    assert {row["image"] for row in rows} == pictures and len(pictures) == small_world.pictures
    looks = [video.look for video in plan_videos(small_world, "picture", small_world.pictures)]
    assert [row["prompt"] for row in rows] == [look.caption for look in looks]
    for row in rows:
        picture = cv2.imread(str(world / "imagebench/images" / row["image"]))
        assert picture.shape == (32, 32, 3) and picture.std() > 5


def test_motion_table_agrees_with_what_is_seen_to_move(world):
    """Frame difference against the sprite's displacement: the recorded velocity explains the pictures."""
    with (world / "motion.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    planned = {f"{x.velocity[0]:.6f}" for x in plan_videos(SimpleNamespace(seed=0, size=32), "webvid", 5)}
    assert {row["vx_px_per_source_frame"] for row in rows if row["video"].startswith("webvid")} == planned


# --- the first frame and the prompt must not tell the motion ---


def direction_accuracy(features: np.ndarray, velocity: np.ndarray) -> float:
    """Held-out accuracy of a ridge probe on the signs of both velocity components; 0.5 is chance."""
    features = np.asarray(features, dtype=np.float64).reshape(len(features), -1)
    features = (features - features.mean(0)) / (features.std() + 1e-9)
    half = len(features) * 2 // 3
    target = velocity / np.linalg.norm(velocity, axis=1, keepdims=True)
    kernel = features @ features.T / features.shape[1]
    weights = np.linalg.solve(kernel[:half, :half] + 1e-2 * np.eye(half), target[:half])
    return float(((kernel[half:, :half] @ weights > 0) == (target[half:] > 0)).mean())


def cross_spectrum(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Low spatial frequencies of one colourful sprite against another's: their phases tell how far it moved."""
    saturation = [picture.astype(float).max(-1) - picture.min(-1) for picture in (first, second)]
    low = [
        np.fft.fft2(picture - picture.mean((1, 2), keepdims=True))[:, [0, 1, 1], [1, 0, 1]] for picture in saturation
    ]
    product = low[0].conj() * low[1]
    return np.concatenate([product.real, product.imag], axis=1) / np.abs(product).mean()


@pytest.fixture(scope="module")
def many():
    """Rendered videos (count, frames, size, size, 3), plans and velocities."""
    plans = plan_videos(MANY, "webvid", 900)
    frames = [render(p.look, p.velocity, MANY.frames, MANY.size, numpy_generator(0, "texture", p.name)) for p in plans]
    return np.stack(frames), plans, np.asarray([plan.velocity for plan in plans])


def test_first_frame_does_not_tell_the_direction_while_two_frames_do(many):
    frames, _, velocity = many
    assert direction_accuracy(frames[:, 0], velocity) < 0.55
    assert direction_accuracy(cross_spectrum(frames[:, 0], frames[:, 8]), velocity) > 0.75


def test_prompt_does_not_tell_the_direction_while_it_tells_the_colour(many):
    _, plans, velocity = many
    words = sorted({word for plan in plans for word in plan.look.caption.split()})
    bags = np.asarray([[word in plan.look.caption.split() for word in words] for plan in plans], dtype=float)
    assert direction_accuracy(bags, velocity) < 0.55
    channels = np.asarray([COLOURS[plan.look.colour] for plan in plans])
    assert direction_accuracy(bags, channels[:, [0, 2]] - 0.5) > 0.95


def test_encoding_does_not_put_the_direction_into_the_first_frame(tmp_path, make):
    """An encoder that looks ahead could: what it spends on a block depends on later frames."""
    settings = SimpleNamespace(seed=0, size=16, frames=12, fps=9)
    plans = plan_videos(settings, "webvid", 360)
    decoded = []
    for plan in plans:
        make_video(dataclasses.replace(plan, path="a.mp4"), tmp_path, settings)
        decoded.append(make.decode_all(tmp_path / "a.mp4")[[0, 9]])
    decoded, velocity = np.stack(decoded).astype(float), np.asarray([plan.velocity for plan in plans])
    assert direction_accuracy(decoded[:, 0], velocity) < 0.58
    assert direction_accuracy(cross_spectrum(decoded[:, 0], decoded[:, 1]), velocity) > 0.7


@pytest.mark.parametrize("kind", ["fixed_fps", "uniform_stride"])
def test_first_frame_of_a_clip_does_not_tell_the_direction(many, make, kind):
    """Clips begin anywhere in the source, and it is their first frame that models are conditioned on."""
    frames, plans, velocity = many
    rule = make.clip_rule(kind=kind)
    starts = np.asarray([choose_windows(rule, plan.name, MANY.frames, MANY.fps)[0]["start"] for plan in plans])
    assert direction_accuracy(frames[np.arange(len(plans)), starts], velocity) < 0.56
    # What a better reader of that frame than a linear one sees: the sprite's place, round the torus.
    start = np.asarray([(plan.look.x, plan.look.y) for plan in plans]) + velocity * starts[:, None]
    angle = 2 * np.pi * start / MANY.size
    place = np.concatenate([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], axis=1)
    assert direction_accuracy(place, velocity) < 0.56
    assert direction_accuracy(place, start % MANY.size - MANY.size / 2) > 0.75
