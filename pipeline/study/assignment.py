"""Who judges which pairs: as equally as whole numbers allow, fixed by the seed."""

from collections.abc import Sequence

from pipeline.seeding import numpy_generator
from pipeline.study.pairing import Pair


def assign(pairs: Sequence[Pair], participants: int, each: int, seed: int) -> list[list[int]]:
    """Positions in ``pairs`` for every participant, at most ``each``, in the order in which they are shown.

    Every pair goes to as many participants as any other (or one more); every participant sees each two runs as often as
    any other two (or once more): the pairs lie in a circle that goes round the pairs of runs, and each participant
    takes the next ``each`` of it.
    """
    by_runs: dict[frozenset, list[int]] = {}
    for position, pair in enumerate(pairs):
        by_runs.setdefault(frozenset((pair.left_run, pair.right_run)), []).append(position)
    columns = [by_runs[runs] for runs in sorted(by_runs, key=sorted)]
    for number, column in enumerate(columns):
        numpy_generator(seed, "circle", number).shuffle(column)
    circle = [column[place] for place in range(max(map(len, columns))) for column in columns if place < len(column)]
    each = min(each, len(circle))
    lists = []
    for participant in range(participants):
        own = [circle[(participant * each + place) % len(circle)] for place in range(each)]
        numpy_generator(seed, "shown", participant).shuffle(own)
        lists.append(own)
    return lists


def mix_in(own: Sequence[int], checks: Sequence[int], seed: int, participant: int) -> list[int]:
    """``own`` with the attention checks at random places, never the first."""
    generator, mixed = numpy_generator(seed, "checks", participant), list(own)
    for check in checks:
        mixed.insert(int(generator.integers(1, len(mixed) + 1)), check)
    return mixed
