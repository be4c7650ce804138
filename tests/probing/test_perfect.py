"""Scenes with other motions, and the perfect denoiser's predictions of them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.data.world import CLASS_COLOURS, plan_videos
from pipeline.diffusion.schedules import VESchedule
from pipeline.evaluation.flow.dis import DisFlow
from pipeline.probing.measure import measure_probe
from pipeline.probing.perfect import PerfectProbe
from pipeline.probing.world_motions import scene_with_motions

WORLD = SimpleNamespace(seed=0, size=32)


class PixelEncoders:
    """In place of a VAE: latents are pixels."""

    scaling_factor = 1.0

    @staticmethod
    def encode(frames):
        return frames, None

    @staticmethod
    def decode(latents):
        return latents


def test_a_scene_keeps_its_first_frame_and_background_and_changes_its_motion():
    frames = scene_with_motions(WORLD, 2, 6, 16, 3, seed=0)
    assert frames.shape == (7, 16, 32, 32, 3)
    assert all(np.array_equal(frames[0, 0], other[0]) for other in frames[1:])
    assert len({other[-1].tobytes() for other in frames}) == 7
    still = (frames == frames[0, 0]).all((0, 1, 4))
    assert still.mean() > 0.05, "some background is never covered"


def test_its_own_motion_is_that_of_the_video_in_the_data_set():
    video = plan_videos(WORLD, "ucf101test", 3, CLASS_COLOURS)[2]
    own, again = scene_with_motions(WORLD, 2, 1, 4, 3, seed=0)[0], scene_with_motions(WORLD, 2, 1, 4, 3, seed=5)
    assert np.array_equal(own, again[0]), "the seed draws the other motions alone"
    assert not np.array_equal(again[1], scene_with_motions(WORLD, 2, 1, 4, 3, seed=0)[1])
    assert video.velocity != (0.0, 0.0)


@pytest.fixture(scope="module")
def curve():
    schedule = VESchedule(0.002, 200.0, 1.0, 1.0, 1.6, 7.0, "equal_snr")
    truth, moved, square, along = [], [[], [], []], [], [[], [], []]
    for number in range(6):
        frames = scene_with_motions(WORLD, number, 64, 8, 3, seed=0)
        probe = PerfectProbe(PixelEncoders, schedule, frames, str(number), 0, 16, "cpu")
        flow = (64, 64, DisFlow())
        found = measure_probe(probe.predict, [0.1, 10.0, 200.0], probe.x0, probe.decode, flow)
        assert found.strip.shape == (4, 8, 32, 32, 3)
        truth += found.truth
        square += found.truth_square
        moved = [before + row for before, row in zip(moved, found.motion, strict=True)]
        along = [before + row for before, row in zip(along, found.along, strict=True)]
    return truth, moved, square, along


def test_with_little_noise_the_prediction_is_the_clip_and_moves_less_the_more_noise_there_is(curve):
    truth, (little, some, much), _, _ = curve
    assert little == pytest.approx(truth, rel=0.02)
    assert np.mean(some) < 1.05 * np.mean(truth)
    assert np.mean(much) < 0.8 * np.mean(some)


def test_the_share_of_the_clips_own_motion_that_is_followed_falls_to_nothing(curve):
    _, _, square, (little, some, much) = curve
    shares = [sum(each) / sum(square) for each in (little, some, much)]
    assert shares[0] == pytest.approx(1, abs=0.02)
    assert abs(shares[2]) < 0.3 < shares[1] < 0.95


def test_noise_comes_from_the_scene_and_the_time():
    schedule = VESchedule(0.002, 200.0, 1.0, 1.0, 1.6, 7.0, "equal_snr")
    frames = scene_with_motions(WORLD, 0, 8, 4, 3, seed=0)
    one, two = (PerfectProbe(PixelEncoders, schedule, frames, "a", 0, size, "cpu") for size in (2, 16))
    assert torch.equal(one.predict(30.0), two.predict(30.0))
