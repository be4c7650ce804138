"""Trainings started as the stages start them, in a process of their own that a test may kill."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAIN = """
import json, logging, sys
from pathlib import Path
from types import SimpleNamespace
from pipeline.engine.processes import die_with_parent
from pipeline.errors import PipelineError
from pipeline.training.job import Job
from pipeline.training.launch import launch
die_with_parent()
job, runtime = json.loads(Path(sys.argv[1]).read_text())
logging.basicConfig(level="INFO")
try:
    launch(Job(**job), SimpleNamespace(**runtime), SimpleNamespace(metrics=lambda *a, **k: None), logging.getLogger())
except PipelineError as error:
    sys.exit(f"PipelineError: {error}")
"""


def start(job, config: str = "cpu", clips_per_device: int | None = None, **environment: str) -> subprocess.Popen:
    """Launch ``job`` by a config of envs/accelerate; what it prints is in launch.log beside its losses."""
    path = Path(job.losses).with_name("launch.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    runtime = {"accelerate_config": f"{ROOT}/envs/accelerate/{config}.yaml", "clips_per_device": clips_per_device}
    path.write_text(json.dumps([asdict(job), runtime]))
    with path.with_suffix(".log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-c", MAIN, str(path)], cwd=ROOT, stdout=log, stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **environment},
        )  # fmt: skip


def said(job) -> str:
    """What the launches of ``job`` printed."""
    return Path(job.losses).with_name("launch.log").read_text()


def finish(job, *arguments, **environment) -> None:
    """Launch ``job`` and wait for its end, which must be a good one."""
    assert start(job, *arguments, **environment).wait(300) == 0, said(job)


def logged(job, name: str = "loss") -> list[float]:
    """A value of every step that was written whole."""
    path = Path(job.losses)
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)[name] for line in lines if line.endswith("\n")]


def wait_for_steps(job, process: subprocess.Popen, count: int) -> None:
    """Wait until ``count`` steps are done and the process still runs."""
    deadline = time.monotonic() + 200
    while len(logged(job)) < count:
        assert process.poll() is None and time.monotonic() < deadline, said(job)
        time.sleep(0.02)


def workers(process: subprocess.Popen) -> list[int]:
    """Ids of the processes that train below ``process``."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    below, found = {process.pid}, []
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    for pid in below:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"pipeline.training.worker" in command and b"accelerate.commands.launch" not in command:
            found.append(pid)
    return sorted(found)
