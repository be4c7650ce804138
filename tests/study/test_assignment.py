"""Whole pictures are shared out as equally as whole numbers allow."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.study.assignment import assign, mix_in
from pipeline.study.pairing import make_pairs

RUNS = ["a", "b", "c", "d"]


@given(pictures=st.integers(1, 20), participants=st.integers(1, 15), blocks=st.integers(1, 25), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_pictures_go_whole_and_participants_runs_and_sides_are_balanced(pictures, participants, blocks, seed):
    pairs = make_pairs([str(number) for number in range(pictures)], RUNS, seed)
    lists = assign(pairs, participants, 6 * blocks, seed)
    assert len(lists) == participants
    shown = Counter(dict.fromkeys(range(len(pairs)), 0))
    for own in lists:
        assert len(set(own)) == len(own) == min(6 * blocks, len(pairs)), "nobody sees a pair twice"
        shown.update(own)
        whole = Counter(pairs[i].picture for i in own)
        assert set(whole.values()) == {6}, "all pairs of a picture, or none"
        left = Counter((pairs[i].left_run, pairs[i].right_run) for i in own)
        for a, b in combinations(RUNS, 2):
            assert left[a, b] + left[b, a] == len(whole), "each two methods equally often"
            seam = pictures % 2  # the circle's ends are on the same side where the number of pictures is odd
            assert abs(left[a, b] - left[b, a]) <= 1 + seam
    assert max(shown.values()) - min(shown.values()) <= 1


def test_the_order_within_a_list_mixes_pictures():
    pairs = make_pairs([str(number) for number in range(8)], RUNS, 0)
    for own in assign(pairs, 4, 24, 1):
        assert len({pairs[i].picture for i in own[:6]}) > 1


def test_pairs_that_are_no_whole_pictures_are_refused():
    with pytest.raises(ValueError, match="no whole pictures"):
        assign(make_pairs(["x", "y"], RUNS, 0), 3, 8, 0)


def test_the_seed_fixes_the_lists():
    pairs = make_pairs([str(number) for number in range(8)], RUNS, 0)
    assert assign(pairs, 4, 12, 1) == assign(pairs, 4, 12, 1) != assign(pairs, 4, 12, 2)


def test_checks_are_mixed_in_and_never_first():
    places = Counter()
    for participant in range(60):
        mixed = mix_in(list(range(10)), [90, 91], 0, participant)
        assert [item for item in mixed if item < 90] == list(range(10))
        places.update(mixed.index(check) for check in (90, 91))
    assert 0 not in places and len(places) > 8
