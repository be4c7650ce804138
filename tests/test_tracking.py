"""MLflow: keys, resumes, first use by several processes, stores that are not there or die."""

import http.server
import importlib.metadata
import subprocess
import sys
import threading
import time

import pytest

from pipeline import tracking
from pipeline.errors import PipelineError
from pipeline.tracking import RunKey


@pytest.fixture(autouse=True)
def own_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("PIPELINE_TRACKING", raising=False)


def key(**changes) -> RunKey:
    values = {
        "stage": "sample",
        "item": "row",
        "params": {"a": {"b": 1}},
        "inputs": {"clips/x": "1"},
        "code": {"p.py": "2"},
    }
    return RunKey(**{**values, **changes})


def cost(wall_s: float, peak_memory_mb: float) -> list[dict]:
    return [{"wall_s": wall_s, "peak_memory_mb": peak_memory_mb}]


def record(root, run_key):
    return tracking.open_record(root, run_key, group="row", engine="dvc", device="cpu", git_commit="abc")


def runs(root):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking.tracking_uri(root))
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    return client, client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])


def test_one_run_keeps_parameters_metrics_tags_and_artifacts(tmp_path):
    tracking.prepare_store(tmp_path)
    (tmp_path / "figure.png").write_bytes(b"png")
    kept = record(tmp_path, key())
    for step in range(3):
        kept.metrics({"loss": 1.0 / (step + 1), "bad": float("nan")}, step=step)
    kept.params({"long": "x" * 9000})
    kept.artifact(tmp_path / "figure.png")
    kept.outputs({"samples/a b$": "hash"})
    kept.finish("FINISHED", cost(2.5, 100))
    client, (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED" and run.info.run_name == "sample@row"
    assert run.data.params["a.b"] == "1"
    assert [point.value for point in client.get_metric_history(run.info.run_id, "loss")] == pytest.approx(
        [1, 1 / 2, 1 / 3]
    )
    assert "bad" not in run.data.metrics and run.data.metrics["wall_s"] == 2.5
    assert run.data.tags["pipeline.row"] == "row" and run.data.tags["mlflow.source.git.commit"] == "abc"
    assert run.data.tags["input.clips/x"] == "1" and "hash" in run.data.tags.values()
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["figure.png"]


def test_data_outside_the_project_keeps_its_record(tmp_path):
    """MLflow refuses names that climb, such as that of an input beside the project."""
    tracking.prepare_store(tmp_path)
    record(tmp_path, key(inputs={"../../data/own.csv": "abc"})).finish("FINISHED", cost(1, 1))
    _, (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED" and run.data.tags["pipeline.stage"] == key().stage
    assert "abc" in run.data.tags.values()


def test_same_key_resumes_and_another_replaces(tmp_path):
    tracking.prepare_store(tmp_path)
    record(tmp_path, key()).finish("FAILED", cost(1, 1))
    record(tmp_path, key()).finish("FINISHED", cost(1, 1))
    _, (only,) = runs(tmp_path)
    assert only.info.status == "FINISHED"
    record(tmp_path, key(params={"a": {"b": 2}})).finish("FINISHED", cost(1, 1))
    record(tmp_path, key(item="other")).finish("FINISHED", cost(1, 1))
    _, found = runs(tmp_path)
    assert len(found) == 3
    first, second, _ = found
    assert first.data.tags["pipeline.superseded_by"] == second.info.run_id
    assert second.data.tags["pipeline.replaces"] == first.info.run_id


def test_costs_are_of_each_jobs_last_record_and_name_its_commit(tmp_path):
    tracking.prepare_store(tmp_path)
    record(tmp_path, key()).finish("FAILED", cost(1, 5))
    record(tmp_path, key()).finish("FINISHED", cost(2, 4))
    record(tmp_path, key(item="other")).finish("FAILED", cost(1, 1))
    assert tracking.job_costs(tmp_path) == [tracking.Cost("sample", "row", "cpu", 3.0, 5.0, "abc")]


def test_a_job_whose_result_was_found_has_a_record_and_no_cost(tmp_path):
    tracking.prepare_store(tmp_path)
    record(tmp_path, key()).finish("FINISHED", [])
    _, (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED"
    assert tracking.job_costs(tmp_path) == []


def test_costs_of_several_processes_are_summed(tmp_path):
    tracking.prepare_store(tmp_path)
    record(tmp_path, key()).finish("FINISHED", cost(2, 7) + cost(3, 5))
    assert tracking.job_costs(tmp_path) == [tracking.Cost("sample", "row", "cpu", 5.0, 7.0, "abc")]


def test_every_part_of_the_key_counts():
    changes = [{"stage": "x"}, {"item": "x"}, {"params": {}}, {"inputs": {}}, {"code": {}}]
    assert len({key().digest, *(key(**change).digest for change in changes)}) == 6


def test_first_use_by_several_processes_at_once_loses_nothing(tmp_path):
    program = (
        "import sys; from pathlib import Path; from pipeline import tracking as t; root = Path(sys.argv[1]);"
        "t.prepare_store(root);"
        "r = t.open_record(root, t.RunKey('s', sys.argv[2], {}, {}, {}), group='', engine='dvc', device='cpu',"
        "git_commit=None);"
        "[r.metrics({'loss': 1.0}, step=i) for i in range(20)]; r.finish('FINISHED', [])"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(i)]) for i in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    client, found = runs(tmp_path)
    assert sorted(run.data.tags["pipeline.item"] for run in found) == ["0", "1", "2", "3"]
    assert all(len(client.get_metric_history(run.info.run_id, "loss")) == 20 for run in found)


def test_server_that_is_not_there_is_reported_before_work(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(PipelineError, match="PIPELINE_TRACKING=off") as error:
        tracking.prepare_store(tmp_path)
    assert time.monotonic() - started < 10
    assert "secret" not in str(error.value) and "127.0.0.1:9" in str(error.value)


def test_store_that_cannot_be_used_is_reported_before_work(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/no/such/folder/x.db")
    with pytest.raises(PipelineError, match="cannot be used"):
        tracking.prepare_store(tmp_path)


def test_a_job_of_a_run_goes_on_when_the_server_has_died(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(PipelineError, match="cannot be reached"):
        tracking.prepare_store(tmp_path)
    version = importlib.metadata.version("mlflow")
    (tmp_path / "mlruns.db.ready").write_text(f"http://127.0.0.1:9\n{version}\n")  # it answered when the run began
    tracking.prepare_store(tmp_path, ask_server=False)
    record(tmp_path, key()).finish("FINISHED", cost(1, 1))
    assert sum("its record is lost" in message for message in caplog.messages) == 1


def test_off_keeps_nothing_and_needs_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_TRACKING", "off")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    tracking.prepare_store(tmp_path)
    kept = record(tmp_path, key())
    kept.metrics({"a": 1.0})
    kept.finish("FINISHED", cost(1, 1))
    assert list(tmp_path.iterdir()) == []


def test_store_that_dies_costs_the_record_only(tmp_path, caplog):
    tracking.prepare_store(tmp_path)
    kept = record(tmp_path, key())
    (tmp_path / "mlruns.db").write_bytes(b"no longer a database" * 1000)
    kept.metrics({"a": 1.0})
    kept.tags({"b": "c"})
    kept.finish("FINISHED", cost(1, 1))
    kept.metrics({"a": 2.0})
    assert sum("its record is lost" in message for message in caplog.messages) == 1


def test_server_that_dies_in_the_middle_costs_seconds_at_most(tmp_path, monkeypatch, caplog):
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args): ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    tracking._check_server(tracking.tracking_uri(tmp_path))
    server.shutdown()
    server.server_close()
    started = time.monotonic()
    kept = record(tmp_path, key())
    kept.finish("FINISHED", cost(1, 1))
    assert time.monotonic() - started < 40
    assert any("its record is lost" in message for message in caplog.messages)
