"""The command that starts a training's processes, and what it is told by Slurm."""

from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.training.nodes import launch_command, launch_environment

CONFIGS = Path(__file__).resolve().parents[2] / "envs/accelerate"
# As in a step that Snakemake's executor has started: on one node of the job's two.
STEP = {"PATH": "/bin", "SLURM_JOB_ID": "7", "SLURM_CONF": "/x", "SLURM_JOB_NODELIST": "node1", "SLURM_NNODES": "1"}


def command(config: str, environment: dict[str, str], nodes: dict[str, list[str]]) -> list[str]:
    return launch_command(CONFIGS / config, ["worker", "job.json"], environment, nodes.get, python="python")


def test_two_nodes_are_those_of_the_job_not_of_the_step():
    words = command("two_nodes.yaml", STEP, {"7": ["localhost", "node2"]})
    assert words[0] == "srun" and {"--overlap", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1"} <= set(words)
    assert words[words.index("--main_process_ip") + 1] == "localhost"
    assert words[-3:] == ["-m", "worker", "job.json"] and "--multi_gpu" in words
    assert launch_environment(CONFIGS / "two_nodes.yaml", STEP) == {
        "PATH": "/bin",
        "SLURM_JOB_ID": "7",
        "SLURM_CONF": "/x",
    }


@pytest.mark.parametrize(
    ("environment", "nodes", "said"),
    [({}, {}, "start the stage inside a Slurm job"), (STEP, {"7": ["node1"]}, "the Slurm job has 1")],
)
def test_nodes_that_are_not_there_are_told_apart(environment, nodes, said):
    with pytest.raises(PipelineError, match=said):
        command("two_nodes_cpu.yaml", environment, nodes)


def test_one_machine_needs_no_slurm():
    assert command("cpu.yaml", {}, {})[:3] == ["python", "-m", "accelerate.commands.launch"]
    words = command("cpu2.yaml", {}, {})
    assert words[words.index("--main_process_port") + 1] == "0" and "--multi_gpu" in words
    assert launch_environment(CONFIGS / "cpu2.yaml", STEP) == {**STEP, "ACCELERATE_USE_CPU": "true"}
