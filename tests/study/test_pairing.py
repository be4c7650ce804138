"""All pairs, balanced sides, an order that tells nothing."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.study.pairing import make_pairs

RUNS = ["a", "b", "c", "d"]


@given(count=st.integers(1, 30), seed=st.integers(0, 1000))
def test_every_pair_of_runs_once_for_every_picture_and_sides_balanced(count, seed):
    pictures = [f"picture-{index}" for index in range(count)]
    pairs = make_pairs(pictures, RUNS, seed)
    seen = Counter((pair.picture, frozenset((pair.left_run, pair.right_run))) for pair in pairs)
    assert len(pairs) == len(seen) == 6 * count and set(seen.values()) == {1}
    left = Counter((pair.left_run, pair.right_run) for pair in pairs)
    for first in RUNS:
        for second in RUNS:
            if first < second:
                assert abs(left[first, second] - left[second, first]) == count % 2


def test_seed_fixes_order_and_sides():
    pictures = [f"picture-{index}" for index in range(8)]
    assert make_pairs(pictures, RUNS, 1) == make_pairs(pictures, RUNS[::-1], 1)
    assert make_pairs(pictures, RUNS, 1) != make_pairs(pictures, RUNS, 2)


def test_the_order_mixes_pictures_and_pairs():
    pairs = make_pairs([f"picture-{index}" for index in range(8)], RUNS, 0)
    assert [pair.picture for pair in pairs] != sorted(pair.picture for pair in pairs)
    first_half = Counter(frozenset((pair.left_run, pair.right_run)) for pair in pairs[:24])
    assert len(first_half) == 6
