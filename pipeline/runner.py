"""Runs one stage: hands it what dvc.yaml declares and nothing else, makes its outputs atomic, and keeps its record.

A stage module has ``add_arguments(parser)`` and ``run(stage)``; see pipeline/stages.
"""

import argparse
import errno
import importlib
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline import tracking
from pipeline.devices import choose_device
from pipeline.engine.ledger import Ledger, StageEntry
from pipeline.engine.processes import die_with_parent
from pipeline.errors import PipelineError
from pipeline.params.declared import Declared
from pipeline.params.evaluation import Runtime
from pipeline.params.file import Params, load_params

log = logging.getLogger("pipeline")

# On the CPU a job computes on one thread: sums do not depend on the number of cores, and jobs run side by side.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
# Modules that hand a stage its work and cannot change its result: no stage declares them, all may import them.
INFRASTRUCTURE = frozenset(
    f"pipeline/{name}.py"
    for name in (
        "__main__",
        "runner",
        "diffusion/source",  # values of switches are parameters; stages that follow them declare it
        "params/base",
        "params/claims",
        "params/backbones",
        "params/data",
        "params/declared",
        "params/encoders",
        "params/evaluation",
        "params/file",
        "params/released",
        "params/trainings",
        "errors",
        "tracking",
        "devices",
        "engine/ledger",
        "engine/processes",
        "backbones/registry",
    )
)
OFFLINE = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "DVC_NO_ANALYTICS": "1"}


@dataclass
class Stage:
    """What a stage is given. ``outputs`` are temporary: they get their real names when the stage has succeeded."""

    address: str
    args: argparse.Namespace
    params: Declared
    runtime: Runtime
    inputs: list[Path]
    outputs: list[Path]
    state_dir: Path
    record: Any
    log: logging.Logger = field(default=log)

    @property
    def device(self) -> str:
        """``runtime.device`` with ``auto`` resolved; imports torch."""
        return choose_device(self.runtime.device)

    @property
    def workers(self) -> int:
        """Worker processes: ``runtime.workers``, or one a core for 0."""
        return self.runtime.workers or os.cpu_count() or 1


def run_stage(name: str, arguments: list[str]) -> int:
    """Run ``python -m pipeline NAME ARGUMENTS``; returns the exit code."""
    os.environ.update({**ONE_THREAD, **OFFLINE})
    if "DVC_ROOT" in os.environ:
        die_with_parent()
    signal.signal(signal.SIGTERM, _end_quietly)
    module = importlib.import_module(f"pipeline.stages.{name}")
    parser = argparse.ArgumentParser(
        prog=f"python -m pipeline {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    args = parser.parse_args(arguments)
    ledger = Ledger()
    entry = ledger.by_command([name, *arguments])
    params = load_params(ledger.root / "params.yaml")
    _start_logging(params.runtime.log_level, ledger.root, entry)
    tracking.prepare_store(ledger.root)
    _execute(module, args, ledger, entry, params)
    return 0


def _execute(module, args, ledger: Ledger, entry: StageEntry, params: Params) -> None:
    root = ledger.root
    missing = [path for path in entry.inputs if not (root / path).exists()]
    if missing:
        raise PipelineError(
            f"{entry.address} needs {', '.join(missing)}; `dvc repro {entry.address}` makes what is missing"
        )
    key = tracking.RunKey(
        stage=entry.name,
        item=entry.key or "",
        params=declared_values(params, entry.params),
        inputs=ledger.hashes(entry, "inputs"),
        code=ledger.hashes(entry, "code"),
    )
    record = tracking.open_record(
        root,
        key,
        group=entry.key,
        engine=os.environ.get("PIPELINE_ENGINE", "dvc" if "DVC_ROOT" in os.environ else "manual"),
        device=params.runtime.device,
        git_commit=git_commit(root),
    )
    finals = [root / path for path in entry.outputs]
    stagings = [path.with_name(f".{path.name}.partial{path.suffix}") for path in finals]
    states = root / ".state" / entry.name / (entry.key or "all")
    stage = Stage(
        address=entry.address,
        args=args,
        params=Declared(params, entry.params, entry.address),
        runtime=params.runtime,
        inputs=[root / path for path in entry.inputs],
        outputs=stagings,
        state_dir=states / key.digest[:16],
        record=record,
    )
    started, status = time.monotonic(), "FAILED"
    try:
        for path in stagings:
            remove(path)
            path.parent.mkdir(parents=True, exist_ok=True)
        module.run(stage)
        for staging, final in zip(stagings, finals, strict=True):  # all before one gets its name
            require_written(staging, final, entry.address)
        for staging, final in zip(stagings, finals, strict=True):
            publish(staging, final, entry.address)
        shutil.rmtree(states, ignore_errors=True)
        status = "FINISHED"
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise PipelineError(
            f"{entry.address}: no space left on the disk; free some and run again (nothing half-written was kept)"
        ) from error
    finally:
        for path in stagings:
            remove(path)
        if status == "FINISHED":
            record.outputs(ledger.hashes(entry, "outputs"))
        record.finish(status, wall_s=time.monotonic() - started, peak_memory_mb=_peak_memory_mb())


def declared_values(params: Params, paths: tuple[str, ...]) -> dict[str, Any]:
    """The declared part of the parameters as plain values by path."""
    values = {}
    for path in paths:
        node: Any = params
        for part in path.split("."):
            node = node[part] if isinstance(node, dict) else getattr(node, part)
        values[path] = _plain(node)
    return values


def _plain(node: Any) -> Any:
    if isinstance(node, BaseModel):
        return node.model_dump()
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    return node


def require_written(staging: Path, final: Path, address: str) -> None:
    """Raise PipelineError where a stage left an output out."""
    if not staging.exists():
        raise PipelineError(f"stage {address} ended without writing {final.name}; this is a bug of the stage")


def publish(staging: Path, final: Path, address: str) -> None:
    """Flush a finished output to the disk and give it its real name; a reader sees all of it or nothing."""
    require_written(staging, final, address)
    for path in [staging, *staging.rglob("*")] if staging.is_dir() else [staging]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    remove(final)
    staging.rename(final)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _start_logging(level: str, root: Path, entry: StageEntry) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if os.environ.get("PIPELINE_ENGINE") != "snakemake":  # there the rule's log file takes what is printed
        path = root / "logs" / entry.name / f"{entry.key or 'all'}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w"))
    logging.basicConfig(
        level=level, format=f"%(asctime)s {entry.address}: %(message)s", datefmt="%H:%M:%S", handlers=handlers
    )
    for noisy in ("dvc", "httpx", "PIL", "matplotlib", "alembic", "mlflow", "dvc_data", "dvc_objects"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _peak_memory_mb() -> float:
    kib = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return kib / 1024


def git_commit(root: Path) -> str | None:
    """The commit that is checked out; None without git."""
    found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def _end_quietly(signum, frame) -> None:
    raise SystemExit(128 + signum)
