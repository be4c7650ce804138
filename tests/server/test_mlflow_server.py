"""An MLflow server on PostgreSQL: many jobs at once, and a server that dies in the middle of a stage. (make slurm)"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import tracking
from tests.engine.conftest import make_workspace
from tests.server.services import Database, Server
from tests.server.writer import PARAMS, key

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
WRITERS, STEPS = 16, 40


@pytest.fixture(scope="module")
def database():
    found = Database()
    found.start()
    yield found
    found.remove()


@pytest.fixture(scope="module")
def server(database, tmp_path_factory):
    found = Server(database, tmp_path_factory.mktemp("server"))
    found.start()
    yield found
    found.kill()


def client_and_runs(server, filter_string: str = ""):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    return client, list(client.search_runs([experiment.experiment_id], filter_string, max_results=1000))


def test_sixteen_jobs_at_once_lose_nothing(server, tmp_path, monkeypatch):
    """Each in a clone of its own, the first that this server sees: they also make the experiment at once."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.delenv("PIPELINE_TRACKING", raising=False)
    start = tmp_path / "start"
    writers = []
    for number in range(WRITERS):
        (tmp_path / str(number)).mkdir()
        command = [sys.executable, "-m", "tests.server.writer", str(tmp_path / str(number)), str(number), str(STEPS)]
        writers.append(subprocess.Popen([*command, str(start)], cwd=ROOT, stderr=subprocess.PIPE, text=True))
    start.touch()
    ends = [(writer.communicate(timeout=600)[1], writer.returncode) for writer in writers]
    assert [code for _, code in ends] == [0] * WRITERS, "\n".join(said for said, _ in ends)
    assert not [said for said, _ in ends if "record is lost" in said]

    client, runs = client_and_runs(server)
    assert sorted(int(run.data.tags["pipeline.item"]) for run in runs) == list(range(WRITERS))
    for run in runs:
        item = run.data.tags["pipeline.item"]
        assert run.info.status == "FINISHED" and run.info.run_name == f"sample@{item}"
        assert run.data.params == {f"runs.p{number}": f"{item}/{number}" for number in range(PARAMS)}
        told = {"pipeline.key": key(item).digest, "pipeline.row": item, "mlflow.source.git.commit": "0123",
                f"input.clips/{item}": f"input of {item}", "code.pipeline/stages/sample.py": "abc",
                f"output.samples/{item}": f"output of {item}"}  # fmt: skip
        assert told.items() <= run.data.tags.items()
        for name, offset, slope in (("loss", 0, 1 / 8), ("gradient_norm", 0.5, 1)):
            history = client.get_metric_history(run.info.run_id, name)
            assert {point.step: point.value for point in history} == {
                step: offset + slope * step for step in range(STEPS)
            }
        assert (run.data.metrics["wall_s"], run.data.metrics["peak_memory_mb"]) == (float(item), 7.0)


@pytest.fixture
def project(tmp_path, server):
    """Stand-in stages that keep records on the server."""
    workspace = make_workspace(tmp_path / "project")
    acts = tmp_path / "acts"
    acts.mkdir()
    workspace.environment.update(MLFLOW_TRACKING_URI=server.uri, PIPELINE_TRACKING="on", ACTS=str(acts))
    return workspace, acts


@pytest.mark.parametrize("victim", ["server", "database"])
def test_server_that_dies_under_a_stage_costs_its_record_alone(server, database, project, victim):
    workspace, acts = project
    untracked = workspace.copy(workspace.path.with_name("untracked"))  # its environment has no server
    untracked.run("python", "-m", "pipeline", "world")

    (acts / "world.hold").touch()
    process = workspace.popen("python", "-m", "pipeline", "world")
    wait_for(lambda: workspace.executed_file.exists())
    _, (run,) = client_and_runs(server, runs_of(workspace, "RUNNING"))
    kill, start = {"server": (server.kill, server.start), "database": (database.stop, database.start)}[victim]
    kill()
    (acts / "world.hold").unlink()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert output.count("the MLflow store failed") == 1 and "its record is lost" in output
    assert digest(workspace.path / "data/world") == digest(untracked.path / "data/world")

    output = workspace.run("python", "-m", "pipeline.engine.job", "preprocess@webvid_strided")
    assert output.count("its record is lost") == 1, "a run that has begun goes on without it"

    start()
    workspace.run("python", "-m", "pipeline", "preprocess", "--set", "webvid_fixed")
    _, (later,) = client_and_runs(server, runs_of(workspace, "FINISHED"))
    assert later.data.tags["pipeline.stage"] == "preprocess" and later.info.run_id != run.info.run_id


def runs_of(workspace, status: str) -> str:
    """A filter: the stand-ins of this workspace know their commit."""
    commit = workspace.run("git", "rev-parse", "HEAD").strip()
    return f"tags.`mlflow.source.git.commit` = '{commit}' and attributes.status = '{status}'"


def digest(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)
