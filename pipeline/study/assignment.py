"""Who judges which pictures: as equally as whole numbers allow, fixed by the seed."""

from collections.abc import Sequence

from pipeline.seeding import numpy_generator
from pipeline.study.pairing import Pair, circle


def assign(pairs: Sequence[Pair], participants: int, each: int, seed: int) -> list[list[int]]:
    """Positions in ``pairs`` for every participant, at most ``each``, in the order in which they are shown.

    Whole pictures: who judges one of a picture's pairs judges them all, so that a rating is a mean over people and
    pictures, and everybody sees each two runs equally often. Every picture goes to as many participants as any other
    (or one more): each takes the next ``each`` / (pairs of a picture) of the circle.
    """
    of_picture: dict[str, list[int]] = {}
    for position, pair in enumerate(pairs):
        of_picture.setdefault(pair.picture, []).append(position)
    pictures = circle(list(of_picture), seed)
    size = len(pairs) // len(pictures)
    if each % size:
        raise ValueError(f"{each} pairs a participant are no whole pictures of {size} pairs")
    count, lists = min(each // size, len(pictures)), []
    for participant in range(participants):
        taken = [pictures[(participant * count + place) % len(pictures)] for place in range(count)]
        own = [position for picture in taken for position in of_picture[picture]]
        numpy_generator(seed, "shown", participant).shuffle(own)
        lists.append(own)
    return lists


def mix_in(own: Sequence[int], checks: Sequence[int], seed: int, participant: int) -> list[int]:
    """``own`` with the attention checks at random places, never the first."""
    generator, mixed = numpy_generator(seed, "checks", participant), list(own)
    for check in checks:
        mixed.insert(int(generator.integers(1, len(mixed) + 1)), check)
    return mixed
