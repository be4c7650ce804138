"""Frechet distance against public implementations, closed forms and its own symmetries."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.evaluation.frechet import frechet_distance

GOLDEN = json.loads((Path(__file__).parent / "golden_metrics.json").read_text())
SHAPES = {"a": (256, 400), "b": (192, 400), "mix": (400, 400)}


def draw(key, shape):
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode()))).numpy()


def test_fewer_samples_than_features_agrees_with_public_implementations():
    first, second, mix = (draw(f"feat.{key}", shape).astype(np.float64) for key, shape in SHAPES.items())
    first, second = 0.7 * first + 0.1, second @ (np.eye(400) + 0.05 * mix) - 0.05
    expected = GOLDEN["frechet"]["256x192 samples, 400 features (rank deficient)"]
    assert frechet_distance(first, second) == pytest.approx(expected["tats_symmetric_svd"], rel=1e-7)


def test_many_samples_agree_with_public_implementations():
    expected = GOLDEN["frechet"]["2048x2048 samples, 64 features"]
    first, second = 0.7 * draw("feat.a", (2048, 64)) + 0.1, 0.9 * draw("feat.b", (2048, 64)) - 0.2
    assert frechet_distance(first, second) == pytest.approx(expected["styleganv_scipy_sqrtm"], rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(2, 40),
    width=st.integers(1, 40),
    scale=st.floats(0.1, 10),
    shift=st.floats(-5, 5),
    seed=st.integers(0, 99),
)
def test_a_scaled_and_shifted_copy_has_the_closed_form(count, width, scale, shift, seed):
    samples = np.random.default_rng(seed).standard_normal((count, width))
    samples -= samples.mean(axis=0)
    variance = samples.var(axis=0, ddof=1).sum()
    expected = width * shift**2 + (scale - 1) ** 2 * variance
    assert frechet_distance(samples, scale * samples + shift) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(first=st.integers(2, 30), second=st.integers(2, 30), width=st.integers(1, 30), seed=st.integers(0, 99))
def test_symmetric_not_negative_and_blind_to_rotation_and_order(first, second, width, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((first, width)), 2 * rng.standard_normal((second, width)) + 1
    rotation = np.linalg.qr(rng.standard_normal((width, width)))[0]
    distance = frechet_distance(a, b)
    assert distance >= 0
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-8, abs=1e-8)
    assert frechet_distance(rng.permutation(a) @ rotation, b @ rotation) == pytest.approx(distance, rel=1e-8, abs=1e-8)


def test_a_set_against_itself_is_zero_and_never_negative():
    samples = np.random.default_rng(0).standard_normal((20, 300)) * 1e3 + 1e4
    assert 0 <= frechet_distance(samples, samples) < 1e-3


@pytest.mark.parametrize(
    "first, message",
    [
        (np.zeros((1, 4)), "at least two samples"),
        (np.full((5, 4), np.nan), "not finite"),
        (np.zeros((5, 3)), "not from one detector"),
    ],
)
def test_unusable_features_are_refused(first, message):
    with pytest.raises(PipelineError, match=message):
        frechet_distance(first, np.zeros((5, 4)))
