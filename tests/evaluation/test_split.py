"""The division of the test clips."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.evaluation.split import split_clips


@given(count=st.integers(2, 80), conditions=st.integers(1, 60), reference=st.integers(1, 60))
def test_parts_are_disjoint_and_as_large_as_asked_or_in_proportion(count, conditions, reference):
    split = split_clips([f"clip-{i}" for i in range(count)], 0, conditions, reference, allow_few=True)
    parts = split.conditions + split.reference
    assert len(set(parts)) == len(parts) == min(count, conditions + reference)
    assert split.conditions and split.reference
    if count >= conditions + reference:
        assert (len(split.conditions), len(split.reference)) == (conditions, reference)


def test_a_clip_keeps_its_part_whatever_the_order_of_the_list():
    ids = [f"clip-{i}" for i in range(40)]
    chosen = {ids[i] for i in split_clips(ids, 3, 10, 20).conditions}
    turned = ids[::-1]
    assert chosen == {turned[i] for i in split_clips(turned, 3, 10, 20).conditions}
    assert chosen != {ids[i] for i in split_clips(ids, 4, 10, 20).conditions}


def test_too_few_clips_name_the_key():
    with pytest.raises(PipelineError, match=r"evaluation\.conditions.*evaluation\.allow_few"):
        split_clips(["a", "b", "c"], 0, 2, 2)
    with pytest.raises(PipelineError, match="at least 2"):
        split_clips(["a"], 0, 2, 2, allow_few=True)
