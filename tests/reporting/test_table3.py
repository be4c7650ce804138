"""Table 3: its exact shape, honest marks, and nothing in it that no metric file said."""

import csv
import dataclasses
import io

import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.metric_file import Value
from pipeline.reporting.published import published_rows
from pipeline.reporting.ratings import Rating, read_ratings
from pipeline.reporting.table3 import csv_text, markdown_text

HEADER = (
    "inference,train,videocrafter1_fvd,videocrafter1_is,videocrafter1_rating,"
    "dynamicrafter_fvd,dynamicrafter_is,dynamicrafter_rating,svd_fvd,svd_is,svd_rating"
)


def page(runs, measured, controls, ratings=None):
    return markdown_text(runs, measured, controls, ratings or {}, published_rows())


def test_header_and_rows_are_exact(runs, measured):
    lines = csv_text(runs, measured, {}).splitlines()
    assert lines[0] == HEADER
    assert [line.split(",")[:2] for line in lines[1:]] == [
        ["standard", "finetune"],
        ["analytic", "finetune"],
        ["standard", "timenoise"],
        ["analytic", "timenoise"],
    ]
    assert all(line.count(",") == HEADER.count(",") for line in lines)


def test_every_cell_holds_its_own_runs_numbers(runs, measured):
    rows = list(csv.DictReader(io.StringIO(csv_text(runs, measured, {}))))
    for row in rows:
        for backbone in ("videocrafter1", "dynamicrafter", "svd"):
            values = measured[f"{backbone}-{row['train']}-{row['inference']}"].values
            assert float(row[f"{backbone}_fvd"]) == pytest.approx(values["fvd"].value, rel=1e-3)
            assert float(row[f"{backbone}_is"]) == pytest.approx(values["is"].value, rel=1e-3)
            assert row[f"{backbone}_rating"] == ""


def test_cells_without_a_run_are_empty_and_the_page_says_so(runs, measured, controls):
    del runs["svd-timenoise-analytic"], measured["svd-timenoise-analytic"]
    row = list(csv.DictReader(io.StringIO(csv_text(runs, measured, {}))))[3]
    assert row["svd_fvd"] == row["svd_is"] == "" and row["dynamicrafter_fvd"] != ""
    assert "| no run | no run |" in page(runs, measured, controls)


def test_too_few_samples_leave_the_cell_empty_and_name_n(runs, measured, controls, measurement):
    measured["svd-finetune-standard"] = measurement({}, count=31)
    row = next(csv.DictReader(io.StringIO(csv_text(runs, measured, {}))))
    assert row["svd_fvd"] == row["svd_is"] == ""
    text = page(runs, measured, controls)
    assert "too few (n = 31)" in text and "fewer than 256 clips" in text


def test_few_samples_that_were_allowed_are_marked(runs, measured, controls, measurement):
    measured["svd-finetune-standard"] = measurement({"fvd": (3.0, None), "is": (1.0, None)}, count=4)
    text = page(runs, measured, controls)
    assert "3.00 (no spread)" in text and "rest on 4 clips only" in text


def test_only_differences_within_the_spread_are_marked(runs, measured, controls):
    first = measured["svd-finetune-standard"].values["fvd"].value
    for name, difference in (("svd-finetune-analytic", 0.5), ("svd-timenoise-standard", 1.5)):
        values = {**measured[name].values, "fvd": Value(first + difference, 1.0)}
        measured[name] = dataclasses.replace(measured[name], values=values)
    text = page(runs, measured, controls)
    assert f"{first + 0.5:.1f} ± 1.0 ≈" in text
    assert f"{first + 1.5:.1f} ± 1.0 |" in text


def test_demo_detectors_are_named_and_marked_and_published_values_stand_apart(runs, measured, controls):
    ours, theirs = page(runs, measured, controls).split("## Published values: another scale")
    assert "# Table 3 (demo)" in ours and "## FVD, IS and rating (demo)" in ours and "FVD (demo)" not in ours
    assert "demo-conv3d `aaaaaaaaaaaa`" in ours
    assert "460.3" in theirs and "460.3" not in ours
    assert "demo" not in theirs.lower()


def test_other_detectors_carry_no_demo_mark(runs, measured, controls):
    real = [{"role": "fvd", "name": "i3d", "hash": "b" * 64, "protocol": "p"}]
    swap = lambda found: {name: dataclasses.replace(entry, provenance=real) for name, entry in found.items()}  # noqa: E731
    assert "(demo)" not in page(runs, swap(measured), swap(controls))


def test_numbers_of_different_detectors_are_refused(runs, measured, controls):
    other = [{"role": "fvd", "name": "demo-conv3d", "hash": "b" * 64, "protocol": "p"}]
    measured["svd-finetune-standard"] = dataclasses.replace(measured["svd-finetune-standard"], provenance=other)
    with pytest.raises(PipelineError, match="svd-finetune-standard come from other detectors"):
        page(runs, measured, controls)


def test_both_controls_and_every_further_run_are_listed(runs, measured, controls, measurement):
    extra = dataclasses.replace(runs["svd-finetune-analytic"], name="svd-finetune-sigma8", start=8.0)
    del measured["svd-finetune-standard"].values["fvd"]
    runs["svd-finetune-sigma8"], measured["svd-finetune-sigma8"] = extra, measurement({"fvd": (77.7, 1.0)})
    text = page(runs, measured, controls)
    assert "| svd-finetune-sigma8 | svd-finetune | analytic, 8 | 256 | 77.7 ± 1.0 |" in text
    assert "real clips against other real clips" in text and "the condition image repeated" in text
    assert "77.7" not in csv_text(runs, measured, {})


def test_ratings_fill_their_column(runs, measured, controls):
    ratings = {"svd-finetune-standard": Rating(3.25, 3.0, 3.5, 10)}
    row = next(csv.DictReader(io.StringIO(csv_text(runs, measured, ratings))))
    assert row["svd_rating"] == "3.25" and row["dynamicrafter_rating"] == ""
    text = page(runs, measured, controls, ratings)
    assert "| 3.25 (3.00–3.50), n = 10 |" in text
    assert "no answers of a user study" not in text and "no answers yet for VideoCrafter1, DynamiCrafter." in text
    assert "no answers of a user study" in page(runs, measured, controls)


def test_a_rating_of_one_participant_has_no_interval(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("run,rating,low,high,participants\na,2.3125,2.05,2.6,10\nb,1.5,,,1\n")
    assert {run: str(rating) for run, rating in read_ratings(path).items()} == {
        "a": "2.31 (2.05–2.60), n = 10",
        "b": "1.50, n = 1",
    }


def test_rows_are_named_as_in_the_other_tables(runs, measured, controls):
    ours, theirs = page(runs, measured, controls).split("## Published values: another scale")
    for part in (ours, theirs):
        for method in ("fine-tuned", "fine-tuned + Analytic-Init", "TimeNoise", "CIL: TimeNoise + Analytic-Init"):
            assert f"\n| {method} | " in part


def test_no_runs_at_all_is_an_error(controls):
    with pytest.raises(PipelineError, match="runs"):
        markdown_text({}, {}, {}, {}, [])
