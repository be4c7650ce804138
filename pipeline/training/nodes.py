"""What an accelerate config asks for, and the command that starts a training on the nodes of a Slurm job."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML, YAMLError

from pipeline.errors import PipelineError

PORTS = range(20000, 32000)  # below those that Linux gives to clients


@dataclass(frozen=True)
class Layout:
    """What an accelerate config asks for; ``processes`` are those of all machines together."""

    processes: int
    machines: int
    cpu: bool
    gpus: str = "all"  # of a machine: their numbers, as CUDA_VISIBLE_DEVICES takes them

    @classmethod
    def read(cls, config: Path) -> "Layout":
        """Raises PipelineError where the file is missing, or asks for machines with unequal shares."""
        try:
            found = YAML(typ="safe").load(config.read_text())
            layout = cls(
                int(found.get("num_processes", 1)), int(found.get("num_machines", 1)), bool(found.get("use_cpu")),
                str(found.get("gpu_ids") or "all"),
            )  # fmt: skip
        except FileNotFoundError:
            raise PipelineError(
                f"runtime.accelerate_config: {config} does not exist; envs/accelerate holds some"
            ) from None
        except (YAMLError, AttributeError, TypeError, ValueError) as error:
            raise PipelineError(f"runtime.accelerate_config: {config} is no accelerate config ({error})") from None
        if layout.processes % layout.machines:
            raise PipelineError(
                f"{config}: num_processes {layout.processes} is the number on all {layout.machines} machines together; "
                "make it a multiple"
            )
        return layout


def hosts_of(job: str) -> list[str]:
    """The nodes of a Slurm job. A step is told its own alone, and Snakemake runs a job in a step on one of them."""
    told = subprocess.run(["scontrol", "show", "job", "--oneliner", job], capture_output=True, text=True, check=True)
    nodes = re.search(r" NodeList=(\S+)", told.stdout).group(1)
    told = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    return told.stdout.split()


def nodes_command(
    config: Path,
    worker: list[str],
    environment: Mapping[str, str],
    hosts: Callable[[str], list[str]] = hosts_of,
    python: str = sys.executable,
) -> list[str]:
    """The command line for ``worker`` (a module and its arguments) on several machines.

    ``environment``: the one it is started from. On one machine: pipeline/training/together.py.

    Raises PipelineError where the config asks for machines that are not there.
    """
    layout = Layout.read(config)
    names = _nodes(layout, config, environment, hosts)
    address, port = _address(names[0], environment), PORTS[int(environment["SLURM_JOB_ID"]) % len(PORTS)]
    # accelerate itself starts processes on CPUs through MPI alone; with --multi_gpu it starts them as it does for GPUs.
    told = ["--config_file", str(config), "--multi_gpu", "--main_process_ip", address, "--main_process_port", str(port)]
    # Which machine a task is on is known to the task alone. The job may run inside a step of its own: overlap.
    script = 'exec "$0" -m accelerate.commands.launch --machine_rank "$SLURM_NODEID" "$@"'
    srun = ["srun", "--overlap", f"--nodes={layout.machines}", f"--ntasks={layout.machines}", "--ntasks-per-node=1",
            "--cpu-bind=none", "--kill-on-bad-exit=1"]  # fmt: skip
    return [*srun, "sh", "-c", script, python, *told, "-m", *worker]


def _nodes(layout: Layout, config: Path, environment: Mapping[str, str], hosts) -> list[str]:
    if "SLURM_JOB_ID" not in environment:
        raise PipelineError(
            f"{config} asks for {layout.machines} machines: start the stage inside a Slurm job with as many nodes, "
            "or choose a config of one machine (runtime.accelerate_config)"
        )
    names = hosts(environment["SLURM_JOB_ID"])
    if len(names) != layout.machines:
        raise PipelineError(
            f"{config} asks for {layout.machines} machines, the Slurm job has {len(names)} ({', '.join(names)}); "
            "make the two equal"
        )
    return names


def _address(host: str, environment: Mapping[str, str]) -> str:
    """The first node, where its processes meet; a node whose name means nothing here is asked for by its number."""
    try:
        socket.gethostbyname(host)
    except OSError:
        return environment.get("SLURM_LAUNCH_NODE_IPADDR", host)
    return host


def launch_environment(config: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """What the workers are told beside the command line."""
    layout = Layout.read(config)
    told = {name: value for name, value in environment.items() if layout.machines == 1 or _of_the_job(name)}
    if layout.cpu:
        return {**told, "ACCELERATE_USE_CPU": "true"}
    return told if layout.gpus == "all" else {**told, "CUDA_VISIBLE_DEVICES": layout.gpus}


def _of_the_job(name: str) -> bool:
    """Not of the step that this process runs in, from which srun would take its defaults."""
    return not name.startswith("SLURM_") or name in ("SLURM_JOB_ID", "SLURM_CONF")
