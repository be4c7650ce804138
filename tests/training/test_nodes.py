"""The command that starts a training's processes, here and on the nodes of a Slurm job."""

from pathlib import Path

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.training import meeting, nodes
from pipeline.training.nodes import Layout, launch_environment, nodes_command
from pipeline.training.trainer import train
from tests.training.launching import ROOT, finish, logged, said

CONFIGS = ROOT / "envs/accelerate"
WORKER = ["pipeline.training.worker", "job.json"]
SLURM = {"SLURM_JOB_ID": "4711", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7"}


def command(config: str, environment: dict, hosts=("localhost", "node08")) -> list[str]:
    return nodes_command(CONFIGS / f"{config}.yaml", WORKER, environment, lambda job: list(hosts), "python")


def test_every_config_of_the_folder_says_how_many_processes_and_machines():
    found = {path.stem: Layout.read(path) for path in CONFIGS.glob("*.yaml")}
    assert found == {
        "cpu": Layout(1, 1, True), "cpu2": Layout(2, 1, True), "gpu": Layout(8, 1, False),
        "two_nodes": Layout(16, 2, False), "two_nodes_cpu": Layout(2, 2, True),
    }  # fmt: skip


def test_the_line_on_two_nodes():
    assert command("two_nodes", SLURM) == [
        "srun", "--overlap", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpu-bind=none",
        "--kill-on-bad-exit=1",
        "sh", "-c", 'exec "$0" -m accelerate.commands.launch --machine_rank "$SLURM_NODEID" "$@"', "python",
        "--config_file", f"{CONFIGS}/two_nodes.yaml", "--multi_gpu",
        "--main_process_ip", "localhost", "--main_process_port", "24711",
        "-m", "pipeline.training.worker", "job.json",
    ]  # fmt: skip


def test_a_node_whose_name_means_nothing_is_met_at_its_number(monkeypatch):
    def unknown(name):
        raise OSError(name)

    monkeypatch.setattr(nodes.socket, "gethostbyname", unknown)
    line = command("two_nodes", SLURM)
    assert line[line.index("--main_process_ip") + 1] == "10.0.0.7"
    line = command("two_nodes", {"SLURM_JOB_ID": "4711"})
    assert line[line.index("--main_process_ip") + 1] == "localhost"


@pytest.mark.parametrize(("environment", "hosts", "says"), [
    ({}, (), r"two_nodes\.yaml asks for 2 machines: start the stage inside a Slurm job"),
    (SLURM, ("node07",), r"asks for 2 machines, the Slurm job has 1 \(node07\); make the two equal"),
    (SLURM, ("a", "b", "c"), r"the Slurm job has 3 \(a, b, c\)"),
])  # fmt: skip
def test_machines_that_are_not_there_are_an_error_for_people(environment, hosts, says):
    with pytest.raises(PipelineError, match=says):
        command("two_nodes", environment, hosts)


@pytest.mark.parametrize(("text", "says"), [
    ("num_machines: 2\nnum_processes: 3\n", "num_processes 3 is the number on all 2 machines together"),
    ("num_processes: many\n", "is no accelerate config"),
    ("- a\n", "is no accelerate config"),
    ("a: [\n", "is no accelerate config"),
    (None, r"does not exist; envs/accelerate holds some"),
])  # fmt: skip
def test_a_config_that_cannot_be_used_is_an_error_for_people(tmp_path, text, says):
    path = tmp_path / "own.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PipelineError, match=says):
        Layout.read(path)


def test_workers_of_a_cpu_config_stay_on_the_cpu():
    assert launch_environment(CONFIGS / "cpu2.yaml", {"A": "b"}) == {"A": "b", "ACCELERATE_USE_CPU": "true"}
    assert launch_environment(CONFIGS / "gpu.yaml", {"A": "b"}) == {"A": "b"}


def test_a_config_may_choose_gpus(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text((CONFIGS / "gpu.yaml").read_text().replace("gpu_ids: all", "gpu_ids: 1,3"))
    assert launch_environment(path, {"A": "b"}) == {"A": "b", "CUDA_VISIBLE_DEVICES": "1,3"}


def test_on_several_nodes_srun_is_told_nothing_of_the_step_that_it_is_started_in():
    """Snakemake runs a job in a step of one task on one node, and srun takes its defaults from the environment."""
    step = {"SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "node07", "SLURM_CPU_BIND": "quiet", "PATH": "/bin"}
    kept = {"SLURM_JOB_ID": "4711", "SLURM_CONF": "own.conf", "PATH": "/bin"}
    assert launch_environment(CONFIGS / "two_nodes.yaml", {**step, **kept}) == kept
    assert launch_environment(CONFIGS / "gpu.yaml", {**step, **kept}) == {**step, **kept}


def test_more_processes_than_gpus_is_an_error_for_people(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    with pytest.raises(PipelineError, match=r"asks for 2 processes, but 1 GPUs are here"):
        meeting._choose_device(0, 2)


SRUN = """#!/bin/sh
# Stands in for Slurm: starts the task of every node here.
echo "srun $*" >&2
while [ "$1" != sh ]; do case "$1" in --nodes=*) count=${1#--nodes=};; esac; shift; done
for node in $(seq 0 $((count - 1))); do SLURM_NODEID=$node "$@" & tasks="$tasks $!"; done
for task in $tasks; do wait $task || failed=1; done
exit ${failed:-0}
"""
SCONTROL = """#!/bin/sh
case "$2" in job) echo "JobId=$4 ReqNodeList=(null) NodeList=node[07-08] BatchHost=node07";;
hostnames) [ "$3" = "node[07-08]" ] && printf 'localhost\\nnode08\\n';; esac
"""


def test_two_nodes_train_as_one_process(make_job, tmp_path):
    """accelerate for real, Slurm by stand-ins."""
    tools: Path = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    one, two = make_job("svd", "one"), make_job("svd", "two")
    train(one)
    port = str(torch.randint(12000, ()).item())  # of the job: not that of a test beside this one
    finish(two, "two_nodes_cpu", PATH=f"{tools}:/usr/bin:/bin", SLURM_JOB_ID=port, SLURM_JOB_NODELIST="node07")
    assert "srun --overlap --nodes=2" in said(two)
    assert logged(two) == pytest.approx(logged(one), rel=1e-5)
