"""The smoke preset's table with its real stages through Slurm, its trainings in two processes each; then one training
on two nodes. (make slurm)
"""

import csv
import json
import re
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pipeline import presets
from tests.slurm.conftest import submitted
from tests.smoke.test_smoke import project as copy_of_this_project
from tests.smoke.test_smoke import run

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(3000)]
# The nodes have 2 CPUs each by configuration; no GPU is there to be computed on.
TWO_PROCESSES = ("--set-threads", "initialise=2", "finetune=2")
TWO_NODES = ("--set-resources", "finetune:nodes=2", "finetune:gpu=0", "finetune:gres=gpu:8")


def choose(folder: Path, config: str) -> None:
    """Another accelerate config: it cannot change a result but for rounding, so nothing reruns for it."""
    tree = presets.read(folder / "params.yaml")
    tree["runtime"]["accelerate_config"] = f"envs/accelerate/{config}.yaml"
    presets.write(tree, folder / "params.yaml")


def through_slurm(cluster, folder: Path, *arguments: str) -> str:
    quick = ("--slurm-init-seconds-before-status-checks", "5")
    return run(folder, "snakemake", "--profile", "profiles/slurm", *quick, *arguments,
               SLURM_CONF=str(cluster.conf), MLFLOW_TRACKING_URI="", PIPELINE_TRACKING="on")  # fmt: skip


@pytest.fixture(scope="module")
def finished(cluster, tmp_path_factory):
    """Folder and what Snakemake said."""
    folder = copy_of_this_project(tmp_path_factory.mktemp("real") / "project")
    choose(folder, "cpu2")
    return folder, through_slurm(cluster, folder, "reports/table3.csv", *TWO_PROCESSES)


def checkpoint_of(folder: Path, name: str) -> dict:
    """Weights of a finished training; every one of them a number."""
    (file,) = (folder / "models" / name).glob("*.safetensors")
    weights = load_file(file)
    assert weights and all(value.isfinite().all() for value in weights.values())
    return weights


def test_table_is_made_and_the_ledger_knows_it(finished):
    folder, _ = finished
    rows = list(csv.DictReader((folder / "reports/table3.csv").open()))
    assert [(row["inference"], row["train"]) for row in rows] == [
        ("standard", "finetune"), ("analytic", "finetune"), ("standard", "timenoise"), ("analytic", "timenoise"),
    ]  # fmt: skip
    assert all(float(row["dynamicrafter_fvd"]) > 0 for row in rows)
    assert "Nothing to be done" in run(folder, "snakemake", "-n", "--cores", "1", "reports/table3.csv")
    assert "Running stage" not in run(folder, "dvc", "repro", "--dry", "table3")


def test_jobs_ran_on_both_nodes(cluster, finished):
    folder, output = finished
    nodes = {job["JobId"]: job["NodeList"] for job in cluster.jobs()}
    told = {log.read_text().split("\n")[0].split(" on ")[1] for log in folder.glob("logs/*/*.log")}
    assert {nodes[job.slurm_id] for job in submitted(output)} == told == {"node1", "node2"}


def test_trainings_ran_in_two_processes(finished):
    folder, _ = finished
    logs = list(folder.glob("logs/finetune/*.log"))
    assert len(logs) == 4
    for log in logs:
        assert "starting, 2 processes" in log.read_text()
        checkpoint_of(folder, log.stem)


def test_training_on_two_nodes(cluster, finished):
    """Its processes are started by srun from inside the job's step, and meet over the network."""
    folder, _ = finished
    choose(folder, "two_nodes_cpu")
    output = through_slurm(cluster, folder, "models/dynamicrafter-cdm", *TWO_NODES)
    (job,) = submitted(output)
    (end,) = [end for end in cluster.jobs() if end["JobId"] == job.slurm_id]
    assert job.address == "finetune@dynamicrafter-cdm" and end["NodeList"] == "node[1-2]"
    log = (folder / "logs/finetune/dynamicrafter-cdm.log").read_text()
    assert re.search(r"starting: srun .*--nodes=2 .*--main_process_ip node1 ", log)
    weights = checkpoint_of(folder, "dynamicrafter-cdm")
    before = checkpoint_of(folder, "dynamicrafter-initial")
    assert any(not value.equal(before[name]) for name, value in weights.items() if name in before)
    assert json.loads((folder / "models/dynamicrafter-cdm/config.json").read_text())
