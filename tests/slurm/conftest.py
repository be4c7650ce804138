"""One small cluster for the session, and projects whose jobs go to it. Needs root and Debian's slurm-wlm and munge."""

import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.engine.processes import hold_folder
from tests.engine.conftest import Workspace, make_workspace
from tests.slurm.cluster import Cluster

# squeue is asked this often at first: the default is for a cluster of strangers, not for jobs of seconds.
QUICK = ("--slurm-init-seconds-before-status-checks", "2")


@pytest.fixture(scope="session")
def cluster():
    """Two idle nodes; everything is ended afterwards. One folder for all sessions: what a killed one left is ended."""
    folder = Path(tempfile.gettempdir()) / "pipeline-slurm"
    descriptor = hold_folder(folder / "session.lock")
    found = Cluster(folder)
    try:
        found.start()
        yield found
    finally:
        found.stop()
        os.close(descriptor)


@dataclass(frozen=True)
class Submitted:
    """A job of Snakemake that Slurm took."""

    slurm_id: str
    address: str  # of the stage


class OnCluster:
    """A project, its cluster, and what a test asks of single stages while they run."""

    def __init__(self, workspace: Workspace, cluster: Cluster):
        self.workspace, self.cluster, self.process = workspace, cluster, None
        self.acts = workspace.path.with_name(workspace.path.name + ".acts")
        self.acts.mkdir()
        workspace.environment.update(ACTS=str(self.acts), SLURM_CONF=str(cluster.conf))

    def start(self, *arguments: str) -> subprocess.Popen:
        self.process = self.workspace.popen("snakemake", "--profile", "profiles/slurm", *QUICK, *arguments)
        return self.process

    def snakemake(self, *arguments: str) -> str:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=800)
        assert process.returncode == 0, output[-6000:]
        return output

    def close(self) -> None:
        """Leave the cluster idle, whatever became of the test."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.cluster.run("scancel", "--me")
        wait_for(lambda: not self.cluster.run("squeue", "--noheader"))

    def hold(self, address: str) -> None:
        """The stage's body waits until it is let go."""
        (self.acts / f"{address}.hold").touch()

    def let_go(self, address: str) -> None:
        (self.acts / f"{address}.hold").unlink()

    def swell(self, address: str, megabytes: int) -> None:
        """The stage's body takes that much memory."""
        (self.acts / f"{address}.megabytes").write_text(str(megabytes))

    def wait_until_runs(self, address: str) -> None:
        path = self.workspace.executed_file
        wait_for(lambda: path.exists() and address in path.read_text().split())

    def running_job(self) -> tuple[str, str]:
        """Number and node of the one job that Slurm runs."""
        (line,) = self.cluster.run("squeue", "--noheader", "--states=RUNNING", "--format=%i %N").splitlines()
        number, node = line.split()
        return number, node


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


def submitted(output: str) -> list[Submitted]:
    """The jobs that Snakemake says it gave to Slurm, by the names of their log files."""
    found = []
    for number, log in re.findall(r"SLURM jobid (\d+) \(log: \S+/rule_(\S+)/\d+\.log\)", output):
        rule, _, key = log.partition("/")
        stage = re.sub(r"^metrics_(table3|ucf101|start_grid|timenoise|motion_error)$", "metrics", rule)
        found.append(Submitted(number, f"{stage}@{key}" if key else stage))
    return found


def memory_mb(job: dict[str, str]) -> int:
    """What Slurm gave to a job that has ended."""
    number, unit = re.search(r"mem=([\d.]+)([MG])", job["Tres"]).groups()
    return int(float(number) * {"M": 1, "G": 1024}[unit])


@pytest.fixture
def new_project(cluster, tmp_path):
    """Stand-in stages of the smoke preset; nothing run yet."""
    found = OnCluster(make_workspace(tmp_path / "project"), cluster)
    yield found
    found.close()


@pytest.fixture(scope="session")
def table_made_here(tmp_path_factory) -> Workspace:
    """The same project, run to table3 by DVC on this machine, and committed to git."""
    workspace = make_workspace(tmp_path_factory.mktemp("here") / "project")
    workspace.dvc("repro", "table3")
    workspace.executed()
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message", "run")
    return workspace


@pytest.fixture
def project(cluster, table_made_here, tmp_path):
    """A copy of the project that was run here, free to be changed."""
    found = OnCluster(table_made_here.copy(tmp_path / "project"), cluster)
    yield found
    found.close()
