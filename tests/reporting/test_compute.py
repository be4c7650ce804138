"""The compute table from tracked runs."""

import csv

from pipeline import tracking
from pipeline.reporting.compute import compute_csv, compute_lines
from pipeline.tracking import Cost, RunKey, job_costs

JOBS = {
    **dict.fromkeys([("sample_ucf101", "svd-a"), ("sample_ucf101", "svd-b"), ("sample_ucf101", "svd-cached")], "svd"),
    ("finetune", "svd-a"): "svd",
    ("world", ""): "all",
}


def test_jobs_are_summed_by_stage_and_backbone_and_other_records_left_out():
    costs = [
        Cost("sample_ucf101", "svd-a", "cpu", 1800, 500), Cost("sample_ucf101", "svd-b", "cpu", 3600, 700),
        Cost("finetune", "svd-a", "cuda", 900, 900), Cost("sample_ucf101", "gone", "cpu", 1e6, 1e6),
    ]  # fmt: skip
    rows = list(csv.DictReader(compute_csv(compute_lines(costs, JOBS, {"finetune": 4})).splitlines()))
    assert [(row["stage"], row["backbone"], row["jobs"], row["recorded"]) for row in rows] == [
        ("sample_ucf101", "svd", "3", "2"), ("finetune", "svd", "1", "1"), ("total", "all", "4", "3"),
    ]  # fmt: skip
    assert [float(row["device_hours"]) for row in rows] == [1.5, 1.0, 2.5]
    assert (rows[0]["longest_s"], rows[0]["peak_memory_mb"], rows[1]["device"]) == ("3600.0", "700", "cuda")


def test_costs_come_from_the_last_finished_record_with_all_its_attempts(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("PIPELINE_TRACKING", raising=False)
    tracking.prepare_store(tmp_path)

    def attempt(status, wall, params):
        key = RunKey("sample_ucf101", "svd-a", params, {}, {})
        record = tracking.open_record(tmp_path, key, group="svd-a", engine="dvc", device="cpu", git_commit=None)
        record.finish(status, [{"wall_s": wall, "peak_memory_mb": wall * 10}])

    attempt("FINISHED", 100.0, {"steps": 1})  # replaced by the next
    attempt("FAILED", 3.0, {"steps": 2})
    attempt("FINISHED", 2.0, {"steps": 2})
    assert job_costs(tmp_path) == [Cost("sample_ucf101", "svd-a", "cpu", 5.0, 30.0)]


def test_with_records_off_the_table_has_its_header_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_TRACKING", "off")
    assert compute_csv(compute_lines(job_costs(tmp_path), JOBS, {})).splitlines() == [
        "stage,backbone,jobs,recorded,device_hours,longest_s,peak_memory_mb,device"
    ]
