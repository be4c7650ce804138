"""The motion score measures motion, and not brightness."""

import cv2
import numpy as np
import pytest

from pipeline.evaluation.motion import measure_motion


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
