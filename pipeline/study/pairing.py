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


def make_pairs(pictures: Sequence[str], runs: Sequence[str], seed: int) -> list[Pair]:
    """Every pair of ``runs`` for every picture, in a random order fixed by ``seed``.

    Of each pair of runs, either one is on the left for half of the pictures (where their number is odd, for one more).
    """
    pairs = []
    for first, second in combinations(sorted(runs), 2):
        rng = numpy_generator(seed, "sides", first, second)
        swapped_first = int(rng.integers(2))
        for place, index in enumerate(rng.permutation(len(pictures))):
            swap = (place + swapped_first) % 2 == 1
            left, right = (second, first) if swap else (first, second)
            pairs.append(Pair(pictures[index], left, right))
    order = numpy_generator(seed, "order").permutation(len(pairs))
    return [pairs[index] for index in order]
