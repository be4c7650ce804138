"""Attention checks: pairs whose answer is known whatever the models do. They never count as answers.

Motion: a window sliding over the condition picture, against the picture standing still. Image alignment: the picture
standing still, against another picture standing still. No model's video is shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.seeding import numpy_generator
from pipeline.study.questions import QUESTIONS

ENLARGED = 1.5  # the window slides over the picture at this size, from its left end to its right
CANDIDATES = 8  # pictures among which the one is taken whose answer is plainest: some are one colour, or alike
MOTION, ALIGNMENT = QUESTIONS[0][0], QUESTIONS[2][0]


@dataclass(frozen=True)
class Check:
    """A pair with its one right answer."""

    question: str  # the one whose answer is known
    expected: str  # left or right


@dataclass(frozen=True)
class Made:
    """A check with its two videos, uint8 (F, H, W, 3), and the picture that it is shown with."""

    picture: str
    check: Check
    left: np.ndarray
    right: np.ndarray


def sliding(picture: np.ndarray, frames: int) -> np.ndarray:
    """uint8 (H, W, 3) to (frames, H, W, 3): a window of its size moves over the enlarged picture."""
    height, width = picture.shape[:2]
    large = cv2.resize(picture, (round(width * ENLARGED), round(height * ENLARGED)), interpolation=cv2.INTER_LINEAR)
    top = (large.shape[0] - height) // 2
    starts = np.linspace(0, large.shape[1] - width, frames).round().astype(int)
    return np.stack([large[top : top + height, start : start + width] for start in starts])


def standing(picture: np.ndarray, frames: int) -> np.ndarray:
    """The picture as a still video."""
    return np.repeat(picture[None], frames, 0)


def make_checks(read, pictures: Sequence[str], count: int, frames: int, seed: int) -> list[Made]:
    """Motion and image alignment by turns; motion alone where there is one picture.

    ``read``: name to uint8 (H, W, 3) with even sides. Sides alternate from a random start, of each question as of all:
    who always presses one side fails half of the checks (of an odd number, one more or less).
    """
    generator, made = numpy_generator(seed, "checks"), []
    flip = int(generator.integers(2))
    for number in range(count):
        drawn = [pictures[index] for index in generator.permutation(len(pictures))[:CANDIDATES]]
        if number % 2 and len(pictures) > 1:
            question, (name, right, wrong) = ALIGNMENT, _two_pictures(read, drawn, frames)
        else:
            question, (name, right, wrong) = MOTION, _slide(read, drawn, frames)
        on_left = (number + number // 2 + flip) % 2 == 0
        check = Check(question, "left" if on_left else "right")
        made.append(Made(name, check, *((right, wrong) if on_left else (wrong, right))))
    return made


def _slide(read, drawn: Sequence[str], frames: int) -> tuple[str, np.ndarray, np.ndarray]:
    name = max(drawn, key=lambda each: _difference(*sliding(read(each), 2)))
    return name, sliding(read(name), frames), standing(read(name), frames)


def _two_pictures(read, drawn: Sequence[str], frames: int) -> tuple[str, np.ndarray, np.ndarray]:
    name, *others = drawn
    picture = read(name)
    fitted = [cv2.resize(read(other), picture.shape[1::-1]) for other in others]
    other = max(fitted, key=lambda each: _difference(picture, each))
    return name, standing(picture, frames), standing(other, frames)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())
