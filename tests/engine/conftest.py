"""A copy of the project with stand-in stage bodies, run once; each test works on a copy of that."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
COPIED = [
    "pipeline",
    "dvc.yaml",
    "Snakefile",
    "profiles",
    "presets",
    "envs",
    "pyproject.toml",
    ".dvcignore",
    ".gitignore",
    "answers",
    "docs/captions",
]
STAND_IN = Path(__file__).with_name("stand_in_stage.py")


class Workspace:
    """A project folder and the two engines in it."""

    def __init__(self, path: Path, **environment: str):
        self.path = path
        self.executed_file = path.with_name(path.name + ".executed")
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PIPELINE_TRACKING": "off",
            "DVC_NO_ANALYTICS": "1",
            "EXECUTED": str(self.executed_file),
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }

    def popen(self, *command: str, **options) -> subprocess.Popen:
        return subprocess.Popen(
            command,
            cwd=self.path,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )  # fmt: skip

    def run(self, *command: str, ok: bool = True) -> str:
        process = self.popen(*command)
        output, _ = process.communicate(timeout=600)
        if ok:
            assert process.returncode == 0, f"{' '.join(command)}\n{output[-6000:]}"
        else:
            assert process.returncode != 0, f"{' '.join(command)} was expected to fail\n{output[-3000:]}"
        return output

    def snakemake(self, *arguments: str, ok: bool = True) -> str:
        return self.run("snakemake", "--cores", "2", *arguments, ok=ok)

    def dvc(self, *arguments: str, ok: bool = True) -> str:
        return self.run("dvc", *arguments, ok=ok)

    def planned(self, *targets: str) -> set[str]:
        """Jobs that a dry run of Snakemake lists."""
        output = self.snakemake("-n", *targets)
        jobs = set()
        for block in re.split(r"^\[.*\]$", output, flags=re.M):
            rule = re.match(r"\s*(?:local)?rule (\w+):", block)
            if rule and rule.group(1) != "all":
                key = re.search(r"wildcards: key=(\S+)", block)
                stage = re.sub(r"^metrics_(table3|ucf101|start_grid|timenoise|motion_error)$", "metrics", rule.group(1))
                jobs.add(f"{stage}@{key.group(1)}" if key else stage)
        return jobs

    def planned_by_dvc(self, *targets: str) -> set[str]:
        """Jobs that a dry run of DVC lists (those changed themselves; what follows shows once they have run)."""
        return set(re.findall(r"Running stage '([^']+)'", self.dvc("repro", "--dry", *targets)))

    def executed(self) -> list[str]:
        """Stage bodies that ran since the last call."""
        lines = self.executed_file.read_text().split() if self.executed_file.exists() else []
        self.executed_file.unlink(missing_ok=True)
        return lines

    def set(self, path: str, value) -> None:
        """Edit one key of params.yaml as a person does."""
        from pipeline import presets

        tree = presets.read(self.path / "params.yaml")
        node = tree
        *parents, last = path.split(".")
        for part in parents:
            node = node[part]
        assert node[last] != value, path
        node[last] = value
        presets.write(tree, self.path / "params.yaml")

    def nothing_to_do(self, by_dvc: bool = False) -> None:
        """For one target: Snakemake's dry run, which asks DVC's status, is empty; so is that of DVC itself."""
        assert self.planned("reports/table3.csv") == set()
        assert not by_dvc or self.planned_by_dvc("table3") == set()

    def clone(self, path: Path) -> "Workspace":
        self.run("git", "clone", "--quiet", str(self.path), str(path))
        second = Workspace(path)
        second.run("git", "config", "user.name", "Test")
        second.run("git", "config", "user.email", "test@example.invalid")
        return second

    def copy(self, path: Path) -> "Workspace":
        shutil.copytree(self.path, path, symlinks=True)
        return Workspace(path)


def make_workspace(path: Path, git: bool = True) -> Workspace:
    """The project with stand-in stage bodies and the smoke preset; nothing run yet."""
    path.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, path / name)
    for stage in (path / "pipeline/stages").glob("*.py"):
        if stage.stem != "__init__":
            shutil.copy(STAND_IN, stage)
    (path / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", path / ".dvc/config")
    shutil.copy(ROOT / ".dvc/.gitignore", path / ".dvc/.gitignore")
    workspace = Workspace(path)
    workspace.run("python", "-m", "pipeline", "preset", "smoke")
    if git:
        workspace.run("git", "init", "--quiet", "--initial-branch", "main")
        workspace.run("git", "config", "user.name", "Test")
        workspace.run("git", "config", "user.email", "test@example.invalid")
        commit(workspace, "start")
    return workspace


def commit(workspace: Workspace, message: str) -> None:
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--allow-empty", "--message", message)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id) -> Workspace:
    """Run by Snakemake to the end, committed; made once for all of pytest-xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "engine"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "ready").exists():
            shutil.rmtree(folder / "project", ignore_errors=True)
            workspace = make_workspace(folder / "project")
            workspace.snakemake()
            workspace.executed()
            commit(workspace, "run")
            (folder / "ready").touch()
    return Workspace(folder / "project")


@pytest.fixture
def workspace(finished, tmp_path) -> Workspace:
    """A copy of the finished project, free to be changed."""
    return finished.copy(tmp_path / "project")


@pytest.fixture
def new_workspace():
    """Makes a project of which nothing has run."""
    return make_workspace
