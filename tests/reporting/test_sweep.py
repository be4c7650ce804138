"""Tables with one line a run: which runs they take, and what the page says."""

import csv
from pathlib import Path

import pytest

from pipeline.params.trainings import ProcessChange, TimeNoise, Training
from pipeline.reporting.methods import condition_noise_rows, describe_noise, start_rows, ucf101_rows
from pipeline.reporting.rows import Run
from pipeline.reporting.start_curves import draw_start_curves
from pipeline.reporting.sweep import sweep_csv, sweep_page

DC = "dynamicrafter"


def run(name, training, init, start, group, backbone=DC) -> Run:
    return Run(name, backbone, f"{backbone}-{training}", init, start, group)


@pytest.fixture
def runs():
    rows = [
        run("naive", "finetune", "standard", 1.0, "table3"),
        run("tn", "timenoise", "standard", 1.0, "table3"),
        run("cil", "timenoise", "analytic", 0.96, "table3"),
        run("original", "initial", "standard", 1.0, "ucf101"),
        run("original-analytic", "initial", "analytic", 0.96, "ucf101"),
        run("early", "initial", "standard", 0.8, "start_grid"),
        run("early-analytic", "initial", "analytic", 0.8, "start_grid"),
        run("linear", "linear", "standard", 1.0, "timenoise"),
        run("svd-naive", "finetune", "standard", 200.0, "table3", "svd"),
    ]
    return {row.name: row for row in rows}


@pytest.fixture
def measured(runs, measurement):
    return {
        name: measurement({"fvd": (10.0 + place, 1.0), "motion_px": (0.2, 0.01), "image_alignment": (30.0, None)})
        for place, name in enumerate(runs)
    }


def training(exponent=1.0, tokens=True) -> Training:
    noise = TimeNoise(kind="timenoise", beta_max=2.0, exponent=exponent, tokens=tokens)
    change = ProcessChange(p_mean=None, p_std=None, fraction_map=None)
    return Training(backbone=DC, latents="l", condition_noise=noise, process=change, source="paper", switches={})


def names(rows):
    return [row.run.name for row in rows]


def test_the_ucf101_table_is_in_the_papers_order(runs):
    rows = ucf101_rows(runs)
    assert names(rows) == ["original", "original-analytic", "naive", "tn", "cil", "svd-naive"]
    assert {row.baseline.name for row in rows if row.run.backbone == DC} == {"naive"}


def test_the_sweep_takes_starts_of_the_same_weights_from_other_tables(runs):
    rows = start_rows(runs)
    assert names(rows) == ["original", "early", "original-analytic", "early-analytic"]
    assert {row.baseline.name for row in rows} == {"original"}


def test_the_noise_table_compares_trainings_at_the_standard_start(runs):
    trainings = {f"{DC}-{name}": training() for name in ("finetune", "timenoise", "linear")}
    assert names(condition_noise_rows(runs, trainings)) == ["naive", "tn", "linear"]
    assert describe_noise(training(0.2, tokens=False)) == "TimeNoise, beta_m 2, a 0.2, CLIP tokens clean"


def test_the_csv_has_every_metric_with_its_spread_and_leaves_unknown_ones_empty(runs, measured):
    lines = list(csv.DictReader(sweep_csv(ucf101_rows(runs), measured).splitlines()))
    assert lines[0]["method"] == "original" and lines[0]["run"] == "original"
    assert (lines[0]["fvd"], lines[0]["fvd_spread"], lines[0]["is"]) == ("13.00", "1.00", "")
    assert lines[0]["image_alignment_spread"] == ""


def test_the_page_marks_what_is_no_difference_and_keeps_published_values_apart(runs, measured, controls):
    published = [{"table": "ucf101", "backbone": "svd", "train": "original", "init": "standard", "start": "T",
                  "fvd": "388.3", "is": "36.32", "rating": ""}]  # fmt: skip
    page = sweep_page("UCF101", "Words.", "the naive fine-tune", ucf101_rows(runs), measured, controls, published)
    assert page.index("388.3") > page.index("## Published values: another scale")
    assert "(demo)" in page.splitlines()[0] and "## Controls (demo)" in page
    cil = next(line for line in page.splitlines() if line.startswith("| CIL"))
    assert "12.0 ± 1.0 |" in cil and "0.200 ± 0.010 ≈" in cil


def test_curves_are_the_same_picture_twice(runs, measured, controls, tmp_path):
    pictures = []
    for name in ("a.png", "b.png"):
        draw_start_curves(tmp_path / name, start_rows(runs), measured, controls)
        pictures.append((tmp_path / name).read_bytes())
    assert pictures[0] == pictures[1]


def test_levels_are_drawn_and_told_for_every_map(tmp_path):
    from pipeline.params.file import load_params
    from pipeline.reporting.noise_levels import draw_noise_levels, profiles_of, rise_table

    params = load_params(Path(__file__).resolve().parents[2] / "presets/demo.yaml")
    profiles = {
        name: profiles_of(name, spec.family, spec.process, params.trainings) for name, spec in params.backbones.items()
    }
    table = rise_table(profiles)
    for words in ("sigma / sigma_max", "equal signal-to-noise", "share of training draws"):
        assert words in table
    draw_noise_levels(tmp_path / "levels.png", params.backbones, params.trainings, profiles)
    assert (tmp_path / "levels.png").stat().st_size > 10_000
    rise = {name: profile.rise for name, profile in profiles["svd"].items()}
    literal = next(value for name, value in rise.items() if "literal" in name)
    assert len(profiles["svd"]) == 3, "a training with another map is that map's line, not one more"
    assert [name for name in profiles["svd"] if "used here" in name] == [name for name in rise if "equal" in name]
    assert literal < 1.3 < 1.9 < next(value for name, value in rise.items() if "equal" in name)
