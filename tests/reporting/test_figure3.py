"""The figure of table 3: a readable PNG, the same bytes for the same numbers, other bytes for others."""

import dataclasses

import cv2

from pipeline.evaluation.metric_file import Value
from pipeline.reporting.figure3 import draw_figure


def test_same_numbers_same_bytes_and_other_numbers_other_bytes(tmp_path, runs, measured, controls):
    first, second, third = (tmp_path / f"{name}.png" for name in "abc")
    draw_figure(first, runs, measured, controls)
    draw_figure(second, runs, measured, controls)
    assert first.read_bytes() == second.read_bytes()
    name = "svd-finetune-analytic"
    measured[name] = dataclasses.replace(measured[name], values={**measured[name].values, "fvd": Value(90.0, 1.0)})
    draw_figure(third, runs, measured, controls)
    assert first.read_bytes() != third.read_bytes()
    assert cv2.imread(str(first)).shape[0] > 300


def test_missing_runs_and_too_few_clips_do_not_stop_it(tmp_path, runs, measured, controls, measurement):
    del runs["svd-timenoise-analytic"], measured["svd-timenoise-analytic"]
    measured["svd-finetune-standard"] = measurement({}, count=3)
    draw_figure(tmp_path / "figure.png", runs, measured, controls)
    assert (tmp_path / "figure.png").stat().st_size > 1000
