"""Inception score against a public implementation's number and its bounds."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.evaluation.inception import inception_score

GOLDEN = json.loads((Path(__file__).parent / "golden_metrics.json").read_text())


def test_agrees_with_the_public_implementation():
    generator = torch.Generator().manual_seed(zlib.crc32(b"is.logits"))
    logits = 3 * torch.randn((500, 101), generator=generator).numpy()
    assert inception_score(logits) == pytest.approx(GOLDEN["inception_score_500x101"], rel=1e-6)


def test_sure_and_even_predictions_reach_the_number_of_classes():
    assert inception_score(100 * np.tile(np.eye(7), (5, 1))) == pytest.approx(7)


def test_equal_predictions_score_one():
    assert inception_score(np.tile([3.0, -1.0, 0.5], (20, 1))) == pytest.approx(1)


def test_huge_logits_stay_finite():
    assert inception_score(1e5 * np.eye(3)) == pytest.approx(3)


@pytest.mark.parametrize("logits", [np.zeros((0, 3)), np.full((2, 2), np.inf)])
def test_unusable_logits_are_refused(logits):
    with pytest.raises(PipelineError):
        inception_score(logits)
