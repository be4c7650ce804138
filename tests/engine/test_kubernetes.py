"""The profile for Kubernetes, through a kubectl that runs jobs as processes."""

import json
import sys
from pathlib import Path

import pytest

from pipeline.engine.kubernetes import status
from pipeline.engine.ledger import Ledger


@pytest.fixture
def on_kubernetes(new_workspace, tmp_path):
    """A project of which nothing has run, and the folder of the cluster's jobs."""
    project, cluster, programs = new_workspace(tmp_path / "project"), tmp_path / "cluster", tmp_path / "bin"
    cluster.mkdir()
    programs.mkdir()
    kubectl = programs / "kubectl"
    kubectl.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("kubectl.py")} "$@"\n')
    kubectl.chmod(0o755)
    acts = tmp_path / "acts"
    acts.mkdir()
    image = {name: project.environment[name] for name in ("EXECUTED", "DVC_NO_ANALYTICS")} | {"ACTS": str(acts)}
    project.environment.update(
        CLUSTER=str(cluster), IMAGE=json.dumps(image), PATH=f"{programs}:{project.environment['PATH']}"
    )
    return project, cluster


def requests(job: dict) -> dict:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    given = container["resources"]["limits"]
    return {
        "threads": int(given["cpu"]),
        "mem_mb": int(given["memory"].removesuffix("M")),
        "gpu": int(given.get("nvidia.com/gpu", 0)),
        "minutes": job["spec"]["template"]["spec"]["activeDeadlineSeconds"] // 60,
    }


def test_jobs_ask_for_what_dvc_yaml_says_and_end_in_the_ledger(on_kubernetes):
    project, cluster = on_kubernetes
    project.run("snakemake", "--profile", "profiles/kubernetes", "--seconds-between-status-checks", "1",
                "moments/svd.safetensors")  # fmt: skip
    jobs = [json.loads(path.read_text()) for path in sorted(cluster.glob("*/manifest.json"))]
    stages = project.executed()
    entries = Ledger(project.path).entries
    wanted = sorted(({key: entries[stage].meta[key] for key in requests(jobs[0])} for stage in stages), key=str)
    assert len(stages) == 6 and sorted((requests(job) for job in jobs), key=str) == wanted
    assert all(job["spec"]["backoffLimit"] == 0 for job in jobs)
    assert project.planned("moments/svd.safetensors") == set()
    assert project.planned_by_dvc("moments@svd") == set()


def test_failed_job_is_tried_again_with_more_memory(on_kubernetes):
    project, cluster = on_kubernetes
    stage = project.path / "pipeline/stages/world.py"
    fails_once = "if not (once := Path(os.environ['ACTS']) / 'once').exists():\n        1 / once.touch()"
    stage.write_text(stage.read_text().replace("def run(stage):", f"def run(stage):\n    {fails_once}", 1))
    project.run("snakemake", "--profile", "profiles/kubernetes", "--seconds-between-status-checks", "1", "data/world")
    jobs = [json.loads(path.read_text()) for path in sorted(cluster.glob("*/manifest.json"))]
    assert [requests(job)["mem_mb"] for job in jobs] == [1500, 3000]
    assert project.executed() == ["world"]


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ([], "running"),
        ([{"type": "Suspended", "status": "True"}], "running"),
        ([{"type": "Complete", "status": "True"}], "success"),
        ([{"type": "FailureTarget", "status": "True"}, {"type": "Failed", "status": "True"}], "failed"),
        ([{"type": "Failed", "status": "False"}], "running"),
    ],
)
def test_status_of_a_job(conditions, told):
    assert status({"status": {"conditions": conditions}}) == told
