"""Image alignment against clips where the answer is known: motion costs little; colour, noise and new content do."""

import cv2
import numpy as np
import pytest
import torch

from pipeline.evaluation.alignment import first_frame_fidelity, image_alignment
from pipeline.evaluation.video import to_video


@pytest.fixture(scope="module")
def scenes(make_blobs):
    """Moving blobs (4, F, H, W, 3), pixels as float."""
    return make_blobs(4, seed=8)[0].astype(np.float64)


def aligned(clips, images):
    video = to_video(np.clip(clips.round(), 0, 255).astype(np.uint8))
    image = to_video(np.clip(images.round(), 0, 255).astype(np.uint8)[:, None])[:, :, 0]
    return np.array(image_alignment(video, image))


def test_the_image_repeated_is_aligned_entirely(scenes):
    assert aligned(np.repeat(scenes[:, :1], 16, 1), scenes[:, 0]).tolist() == [60.0] * 4


def test_motion_costs_little_and_another_clips_image_much(scenes):
    own, other = aligned(scenes, scenes[:, 0]), aligned(scenes, np.roll(scenes[:, 0], 1, 0))  # two are of one colour
    assert own.min() > 28
    assert (own - other).min() > 2 and np.sort(own - other)[1] > 9


@pytest.mark.parametrize("change", ["discoloured", "noisy", "blurred", "lost"])
def test_every_change_of_what_is_seen_costs(scenes, change):
    rng = np.random.default_rng(0)
    changed = {
        "discoloured": lambda: scenes * np.array([1.0, 0.85, 1.15]),
        "noisy": lambda: scenes + 12 * rng.standard_normal(scenes.shape),
        "blurred": lambda: np.stack([[cv2.GaussianBlur(frame, (0, 0), 3) for frame in clip] for clip in scenes]),
        "lost": lambda: np.broadcast_to(scenes[:, :, :1, :1], scenes.shape),
    }[change]()
    assert (aligned(scenes, scenes[:, 0]) - aligned(changed, scenes[:, 0])).min() > 1


def test_it_falls_as_the_discolouring_grows(scenes):
    values = [aligned(scenes + offset, scenes[:, 0]).mean() for offset in (0, 5, 15, 40)]
    assert values == sorted(values, reverse=True)


def test_a_clip_does_not_depend_on_its_batch_and_large_frames_are_made_small():
    video = torch.rand(3, 3, 4, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    image = video[:, :, 0]
    together = image_alignment(video, image)
    assert together == pytest.approx([image_alignment(video[i : i + 1], image[i : i + 1])[0] for i in range(3)])


def test_first_frame_fidelity_is_the_psnr_of_the_first_frame():
    image = torch.zeros(1, 3, 8, 8)
    video = torch.ones(1, 3, 4, 8, 8)
    video[:, :, 0] = 0.2  # a tenth of the range of 2
    assert first_frame_fidelity(video, image) == pytest.approx([20.0])
