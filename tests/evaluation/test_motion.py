"""The motion score measures motion, and neither brightness nor noise; consistency does not mind motion."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from pipeline.data.world import CLASS_COLOURS, plan_videos, render
from pipeline.evaluation import motion
from pipeline.evaluation.flow.dis import DisFlow
from pipeline.seeding import numpy_generator

PAPER = (450, 800)


def measure_motion(frames, height, width):
    return motion.measure_motion(frames, height, width, DisFlow())


@pytest.fixture(scope="module")
def texture():
    noise = np.random.default_rng(0).uniform(0, 255, (120, 120, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.clip((smooth - smooth.mean()) * 4 + 128, 0, 255).astype(np.uint8)


def moving(texture, x, y, frames=8, size=32):
    return np.stack([texture[20 + y * f : 20 + y * f + size, 20 + x * f : 20 + x * f + size] for f in range(frames)])


def test_a_still_clip_scores_zero(texture):
    assert measure_motion(moving(texture, 0, 0), 64, 64).score < 0.01


@pytest.mark.parametrize("x, y", [(1, 0), (0, 2), (2, 1), (3, 0)])
def test_translations_are_measured_within_a_tenth(texture, x, y):
    motion = measure_motion(moving(texture, x, y), 64, 64)
    assert motion.pixels_per_frame == pytest.approx(np.hypot(x, y), rel=0.1)
    # The picture's window wanders right and down, so what it shows moves left and up.
    assert motion.mean_vector == pytest.approx((-x, -y), abs=0.1 * np.hypot(x, y))
    assert motion.score == pytest.approx(7 * 2 * np.hypot(x, y), rel=0.1)


def test_native_pixels_do_not_depend_on_the_size_of_the_protocol(texture):
    clip = moving(texture, 2, 1)
    assert measure_motion(clip, 48, 96).pixels_per_frame == pytest.approx(np.hypot(2, 1), rel=0.1)


def test_flicker_counts_far_less_than_slow_motion(texture):
    still = moving(texture, 0, 0).astype(np.float64)
    rng = np.random.default_rng(1)
    offset = still + 10 * rng.standard_normal((8, 1, 1, 1))
    gain = still * (1 + 0.1 * rng.standard_normal((8, 1, 1, 1)))
    slow = measure_motion(moving(texture, 1, 0), 64, 64).score
    for flickering in (offset, gain):
        clip = np.clip(flickering, 0, 255).astype(np.uint8)
        assert measure_motion(clip, 64, 64).score < 0.1 * slow


def test_flat_frames_do_not_move():
    frames = np.repeat(np.array([20, 200, 90, 91], dtype=np.uint8), 32 * 32 * 3).reshape(4, 32, 32, 3)
    assert measure_motion(frames, 64, 64).score < 0.01


@pytest.fixture(scope="module")
def picture():
    """A picture of the paper's size with detail of all scales, and a smooth sky above it."""
    rng, (height, width) = np.random.default_rng(3), PAPER
    detail = sum(
        cv2.GaussianBlur(rng.standard_normal((height, width, 3)).astype(np.float32), (0, 0), scale) * scale
        for scale in (1, 2, 4, 8, 16)
    )
    ground = np.clip((np.arange(height) - 120) / 60, 0, 1)[:, None, None]
    sky = np.linspace(200, 150, height)[:, None, None]
    return np.clip(sky + ground * (detail * 25 - 40), 0, 255).astype(np.uint8)


def warped(picture, step, frames=5):
    """Frames of the picture under ``step(frame)``, a 2 x 3 matrix."""
    height, width = picture.shape[:2]
    return np.stack([
        cv2.warpAffine(picture, step(f), (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        for f in range(frames)
    ])  # fmt: skip


def translated(picture, x, y, frames=5):
    return warped(picture, lambda f: np.float32([[1, 0, x * f], [0, 1, y * f]]), frames)


def rotated(picture, degrees, frames=5):
    height, width = picture.shape[:2]
    return warped(picture, lambda f: cv2.getRotationMatrix2D((width / 2, height / 2), degrees * f, 1), frames)


def test_at_the_papers_size_clips_of_known_motion_are_ranked(picture):
    textured = picture[150:]
    clips = {
        "still": translated(textured, 0, 0),
        "one pixel": translated(textured, 1, 0),
        "half a degree": rotated(textured, 0.5),
        "three pixels": translated(textured, 0, 3),
        "two degrees": rotated(textured, 2),
    }
    scores = {name: measure_motion(clip, *PAPER).score for name, clip in clips.items()}
    assert np.diff(list(scores.values())).min() > 0.1


@pytest.mark.parametrize("x, y", [(1, 0), (2.5, 1), (0, -6)])
def test_at_the_papers_size_a_translation_sums_over_its_pairs(picture, x, y):
    textured = picture[150:]
    score = measure_motion(translated(textured, x, y), *PAPER).score
    scaled = np.hypot(x, y * PAPER[0] / textured.shape[0])
    assert score == pytest.approx(4 * scaled, rel=0.1)


@pytest.mark.parametrize("disturbance", ["flicker", "noise"])
def test_neither_flicker_nor_noise_of_a_still_clip_is_motion(picture, disturbance):
    """Flicker of 5 %, noise of 2 % of the range: below a tenth of one pixel a frame."""
    rng = np.random.default_rng(0)
    if disturbance == "flicker":
        frames = np.stack([picture * (1 + 0.05 * (-1) ** f) for f in range(5)])
    else:
        frames = picture + 0.02 * 255 * rng.standard_normal((5, *picture.shape))
    still = np.clip(frames.round(), 0, 255).astype(np.uint8)
    assert measure_motion(still, *PAPER).score < 0.1 * measure_motion(translated(picture, 1, 0), *PAPER).score


def test_consistency_minds_flicker_noise_and_change_and_not_motion(texture):
    rng = np.random.default_rng(0)
    smooth = moving(texture, 1, 1).astype(np.float64)

    def consistency(frames):
        return measure_motion(np.clip(frames.round(), 0, 255).astype(np.uint8), 64, 64).consistency

    still, moved = consistency(moving(texture, 0, 0)), consistency(smooth)
    assert still == 60
    assert moved > 33
    for size in (0.02, 0.05):
        flicker = consistency(smooth * (1 + size * np.array([1, -1] * 4)[:, None, None, None]))
        noise = consistency(smooth + 255 * size * rng.standard_normal(smooth.shape))
        assert max(flicker, noise) < moved - 3
    jumping = np.stack([texture[k : k + 32, 5 * k : 5 * k + 32] for k in rng.permutation(8)])
    assert consistency(jumping) < moved - 10


def test_consistency_falls_as_the_disturbance_grows(texture):
    smooth, rng = moving(texture, 1, 0).astype(np.float64), np.random.default_rng(1)
    noise = rng.standard_normal(smooth.shape)
    values = [
        measure_motion(np.clip(smooth + level * noise, 0, 255).astype(np.uint8), 64, 64).consistency
        for level in (1, 4, 16, 40)
    ]
    assert np.diff(values).max() < -0.5


@pytest.fixture(scope="module")
def small_clips():
    """Clips of the embedded world at the stride of its UCF101: 32 x 32 pixels, one sprite on a still background."""
    world = SimpleNamespace(seed=0, size=32)
    return [
        render(
            video.look, (3 * video.velocity[0], 3 * video.velocity[1]), 16, 32,
            numpy_generator(0, "texture", video.name),
        )
        for video in plan_videos(world, "ucf101test", 8, CLASS_COLOURS)
    ]  # fmt: skip


def test_noise_hardly_changes_the_motion_of_small_clips(small_clips):
    """At the demo's protocol, where a moving thing is a few pixels wide: noise of 2 % of the range."""
    rng = np.random.default_rng(0)

    def noisy(clip):
        return np.clip((clip + 0.02 * 255 * rng.standard_normal(clip.shape)).round(), 0, 255).astype(np.uint8)

    def motion_of(clips):
        return np.array([measure_motion(clip, 64, 64).pixels_per_frame for clip in clips])

    moved, disturbed = motion_of(small_clips), motion_of([noisy(clip) for clip in small_clips])
    still = motion_of([noisy(np.repeat(clip[:1], 16, axis=0)) for clip in small_clips])
    assert disturbed.mean() == pytest.approx(moved.mean(), rel=0.1)
    assert still.mean() < 0.1 * moved.mean()
    assert np.corrcoef(moved, disturbed)[0, 1] > 0.95
