"""Pairs are shared out as equally as whole numbers allow."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.study.assignment import assign, mix_in
from pipeline.study.pairing import make_pairs

RUNS = ["a", "b", "c", "d"]


@given(pictures=st.integers(1, 20), participants=st.integers(1, 15), each=st.integers(1, 150), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_pairs_participants_and_runs_are_balanced(pictures, participants, each, seed):
    pairs = make_pairs([str(number) for number in range(pictures)], RUNS, seed)
    lists = assign(pairs, participants, each, seed)
    assert len(lists) == participants
    shown = Counter(dict.fromkeys(range(len(pairs)), 0))
    for own in lists:
        assert len(set(own)) == len(own) == min(each, len(pairs)), "nobody sees a pair twice"
        shown.update(own)
        runs = Counter(frozenset((pairs[i].left_run, pairs[i].right_run)) for i in own)
        counts = [runs[frozenset(two)] for two in {frozenset((p.left_run, p.right_run)) for p in pairs}]
        assert max(counts) - min(counts) <= 1
    assert max(shown.values()) - min(shown.values()) <= 1


def test_the_seed_fixes_the_lists():
    pairs = make_pairs([str(number) for number in range(8)], RUNS, 0)
    assert assign(pairs, 4, 10, 1) == assign(pairs, 4, 10, 1) != assign(pairs, 4, 10, 2)


def test_checks_are_mixed_in_and_never_first():
    places = Counter()
    for participant in range(60):
        mixed = mix_in(list(range(10)), [90, 91], 0, participant)
        assert [item for item in mixed if item < 90] == list(range(10))
        places.update(mixed.index(check) for check in (90, 91))
    assert 0 not in places and len(places) > 8
