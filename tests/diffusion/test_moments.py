"""Moments: exact, in any order, over any split."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.diffusion.moments import MomentsAccumulator
from pipeline.errors import PipelineError


def accumulate(batches) -> MomentsAccumulator:
    moments = MomentsAccumulator()
    for batch in batches:
        moments.update(batch)
    return moments


@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 39), max_size=5), offset=st.floats(-100, 100))
@settings(max_examples=30, deadline=None)
def test_any_split_in_any_order_gives_the_exact_moments(seed, cuts, offset):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(40, 4, 3, 2, 2, generator=generator, dtype=torch.float64) * 2 + offset
    bounds = [0, *sorted(set(cuts)), 40]
    parts = [x[a:b] for a, b in pairwise(bounds)]
    order = torch.randperm(len(parts), generator=generator).tolist()
    one = accumulate([parts[i] for i in order])
    merged = MomentsAccumulator()
    for part in parts:
        merged.merge(accumulate([part]))
    for moments in (one, merged):
        assert moments.count == 40
        assert torch.allclose(moments.mean, x.mean(0), rtol=1e-12, atol=1e-12 * abs(offset) + 1e-13)
        assert moments.variance == pytest.approx(x.var(0, unbiased=False).mean().item(), rel=1e-10)


def test_variance_within_the_posterior_is_added():
    moments = MomentsAccumulator()
    moments.update(torch.zeros(5, 1, 2, 2, 2), within=torch.full((5, 1, 2, 2, 2), 0.25))
    assert moments.variance == pytest.approx(0.25)


def test_latents_that_are_not_finite_are_refused():
    x = torch.zeros(3, 1, 2, 2, 2)
    x[1, 0, 0, 0, 0] = torch.inf
    with pytest.raises(PipelineError, match=r"not finite \(rows \[1\]"):
        accumulate([x])


def test_shapes_do_not_mix_and_nothing_has_no_moments():
    moments = accumulate([torch.zeros(2, 1, 2, 2, 2)])
    with pytest.raises(PipelineError, match="do not mix"):
        moments.update(torch.zeros(2, 1, 2, 2, 3))
    with pytest.raises(PipelineError, match="no clip was seen"):
        _ = MomentsAccumulator().mean
