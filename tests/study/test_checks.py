"""Attention checks: answerable from what is shown, and failed by who always presses one side."""

from collections import Counter

import numpy as np
import pytest

from pipeline.study.checks import make_checks, sliding

PICTURES = [f"picture-{number}" for number in range(4)]


def noise(name: str) -> np.ndarray:
    return np.random.default_rng(int(name[-1])).integers(0, 255, (8, 12, 3), dtype=np.uint8)


def flat(name: str) -> np.ndarray:
    return np.full((8, 12, 3), 100, dtype=np.uint8)


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("pictures", [PICTURES, PICTURES[:1]])
def test_both_sides_are_right_half_of_the_time_whatever_the_seed(count, pictures):
    first = Counter()
    for seed in range(40):
        checks = [made.check for made in make_checks(noise, pictures, count, 4, seed)]
        sides = Counter(check.expected for check in checks)
        assert set(sides) == {"left", "right"} and abs(sides["left"] - sides["right"]) <= 1
        for question in {check.question for check in checks}:
            own = Counter(check.expected for check in checks if check.question == question)
            assert abs(own["left"] - own["right"]) <= 1, "nor does one side answer one question"
        first[checks[0].expected] += 1
    assert 10 < first["left"] < 30, "and the first side tells nothing"


def test_the_window_slides_without_coming_in_again():
    picture = np.zeros((8, 12, 3), dtype=np.uint8) + np.arange(12, dtype=np.uint8)[None, :, None] * 20
    moving = sliding(picture, 5)
    assert moving.shape == (5, 8, 12, 3)
    assert (np.diff(moving.astype(int), axis=2) >= 0).all(), "a ramp stays a ramp: no seam"
    assert (np.diff(moving.astype(int).mean((1, 2, 3))) > 0).all(), "and every frame moves on"


def test_pictures_without_an_answer_are_passed_over():
    def read(name: str) -> np.ndarray:
        return noise(name) if name == "picture-3" else flat(name)

    for seed in range(20):
        motion, alignment = make_checks(read, PICTURES, 2, 4, seed)
        assert motion.picture == "picture-3"
        if alignment.picture != "picture-3":
            assert (alignment.left != alignment.right).any()
