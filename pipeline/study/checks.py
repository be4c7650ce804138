"""Attention checks: pairs whose answer is known whatever the models do. They never count as answers.

Motion: the condition picture sliding, against the picture standing still. Image alignment: a video of this picture,
against a video of another.
"""

from dataclasses import dataclass

import numpy as np

SLIDE = 0.5  # of the picture's width, over the clip


@dataclass(frozen=True)
class Check:
    """A pair with its one right answer."""

    question: str  # the one whose answer is known
    expected: str  # left or right


def sliding(picture: np.ndarray, frames: int) -> np.ndarray:
    """uint8 (H, W, 3) to (frames, H, W, 3): the picture moving to the right, coming in again on the left."""
    step = SLIDE * picture.shape[1] / max(frames - 1, 1)
    return np.stack([np.roll(picture, round(step * frame), axis=1) for frame in range(frames)])


def standing(picture: np.ndarray, frames: int) -> np.ndarray:
    """The picture as a still video."""
    return np.repeat(picture[None], frames, 0)
