"""Which two videos a rater sees side by side: all pairs of variants for every picture, blinded and balanced."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from pipeline.seeding import numpy_generator


@dataclass(frozen=True)
class Pair:
    """Two runs' videos of one picture."""

    picture: str
    left_run: str
    right_run: str


def circle(pictures: Sequence[str], seed: int) -> list[str]:
    """The pictures in the random order in which sides alternate and participants take them."""
    names = sorted(pictures)
    return [names[index] for index in numpy_generator(seed, "circle").permutation(len(names))]


def make_pairs(pictures: Sequence[str], runs: Sequence[str], seed: int) -> list[Pair]:
    """Every pair of ``runs`` for every picture, in a random order fixed by ``seed``.

    Of each pair of runs, sides alternate round the circle: either one is on the left for half of the pictures that lie
    side by side there (where their number is odd, for one more).
    """
    pairs = []
    for first, second in combinations(sorted(runs), 2):
        swapped_first = int(numpy_generator(seed, "sides", first, second).integers(2))
        for place, picture in enumerate(circle(pictures, seed)):
            swap = (place + swapped_first) % 2 == 1
            left, right = (second, first) if swap else (first, second)
            pairs.append(Pair(picture, left, right))
    order = numpy_generator(seed, "order").permutation(len(pairs))
    return [pairs[index] for index in order]
