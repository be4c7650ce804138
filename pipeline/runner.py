"""Runs one stage: hands it what dvc.yaml declares and nothing else, makes its outputs atomic, and keeps its record.

A stage module has ``add_arguments(parser)`` and ``run(stage)``; one that is divided into parts has instead
``make_parts(stage)``, which returns their number, and ``merge(stage, number)``. See pipeline/stages.
"""

import argparse
import contextlib
import importlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import tracking
from pipeline.devices import choose_device
from pipeline.engine import outputs, receipts
from pipeline.engine.costs import note_cost, peak_memory_mb, shard_costs
from pipeline.engine.journal import note
from pipeline.engine.ledger import Ledger, StageEntry
from pipeline.engine.parts import WHOLE, Parts, Shard
from pipeline.engine.processes import die_with_parent, wait_for_lock
from pipeline.errors import PipelineError, lacks_space
from pipeline.params.declared import Declared
from pipeline.params.evaluation import Runtime
from pipeline.params.file import Params, load_params
from pipeline.urls import is_url

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
        "urls",
        "tracking",
        "devices",
        "engine/costs",
        "engine/journal",
        "engine/ledger",
        "engine/outputs",
        "engine/parts",
        "engine/processes",
        "engine/receipts",
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
    inputs: list[Path | str]  # str: a URL
    outputs: list[Path]
    state_dir: Path
    parts: Parts
    record: Any
    log: logging.Logger = field(default=log)

    @property
    def device(self) -> str:
        """``runtime.device`` with ``auto`` resolved; imports torch."""
        return choose_device(self.runtime.device)

    @property
    def workers(self) -> int:
        """Worker processes: ``runtime.workers``, or for 0 one a core that this job may use."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return self.runtime.workers or cores or 1


@dataclass(frozen=True)
class Job:
    """One job of dvc.yaml, ready to be run."""

    module: Any
    args: argparse.Namespace
    ledger: Ledger
    entry: StageEntry
    params: Params

    def stage(self, key: tracking.RunKey, record: Any, stagings: list[Path], shard: Shard = WHOLE) -> Stage:
        """What its module is given."""
        root, entry = self.ledger.root, self.entry
        state = receipts.state_of(root, entry) / key.digest[:16]
        return Stage(
            address=entry.address,
            args=self.args,
            params=Declared(self.params, entry.params, entry.address),
            runtime=self.params.runtime,
            inputs=[path if is_url(path) else root / path for path in entry.inputs],
            outputs=stagings,
            state_dir=state,
            parts=Parts(state / "parts", shard),
            record=record,
        )


def run_stage(name: str, arguments: list[str]) -> int:
    """Run ``python -m pipeline NAME ARGUMENTS``; returns the exit code."""
    _set_process_up()
    module = importlib.import_module(f"pipeline.stages.{name}")
    args = _parse(name, module, arguments)
    ledger = Ledger()
    job = _open_job(module, args, ledger, ledger.by_command([name, *arguments]))
    tracking.prepare_store(ledger.root)
    receipts.sweep(ledger)
    with _only_one(receipts.lock_file(ledger.root, job.entry)):
        _forget_rows_that_are_gone(job)
        _run_job(job)
    return 0


def run_job(address: str) -> int:
    """Run a job without DVC: its receipt is for the process that schedules the jobs."""
    _set_process_up()
    ledger = Ledger(locked=False)
    job = _job_at(ledger, address)
    tracking.prepare_store(ledger.root)
    with _only_one(receipts.lock_file(ledger.root, job.entry)):
        _forget_rows_that_are_gone(job)
        key = receipts.job_key(ledger, job.entry, job.params)
        if receipts.holds(ledger, job.entry, receipts.read_receipt(ledger.root, job.entry), key.digest):
            log.info("done already")
        elif _put_back(job, key):
            log.info("DVC has its result")
        else:
            _run_job(job)
    return 0


def _put_back(job: Job, key: tracking.RunKey) -> bool:
    """Put a result that DVC has in its place; returns whether it had one."""
    ledger, entry, hashes = job.ledger, job.entry, key.inputs | key.code
    if not ledger.holds_result(entry, key.params, hashes):
        return False
    for path in entry.outputs:
        outputs.remove(ledger.root / path)
    if not ledger.put_back(entry, key.params, hashes):  # gone from the cache since
        return False
    receipts.write_receipt(ledger, entry, key, ledger.hashes(entry, "outputs"))
    return True


def run_shard(address: str, shard: Shard) -> int:
    """Make one shard's parts of a job; the job itself then finds them."""
    _set_process_up()
    ledger = Ledger(locked=False)
    job = _job_at(ledger, address)
    whole, own = (receipts.lock_file(ledger.root, job.entry, name) for name in ("", str(shard)))
    with _only_one(whole, shared=True), _only_one(own):
        _require_inputs(job)
        key = receipts.job_key(ledger, job.entry, job.params)
        done = receipts.holds(ledger, job.entry, receipts.read_receipt(ledger.root, job.entry), key.digest)
        if done or ledger.holds_result(job.entry, key.params, key.inputs | key.code):
            log.info("nothing to do: the stage has its result")
        else:
            stage, started = job.stage(key, tracking.NullRecord(), [], shard), time.monotonic()
            receipts.forget_receipt(ledger.root, job.entry)
            with _disk_full_explained(address):
                job.module.make_parts(stage)
            _require_unchanged(job, key, stage.state_dir)
            note_cost(stage.state_dir, shard, time.monotonic() - started)
        receipts.write_shard_receipt(ledger.root, job.entry, shard, key.digest)
    return 0


@contextlib.contextmanager
def _only_one(lock: Path, shared: bool = False) -> Iterator[None]:
    """Hold a job's lock. Where another process had it this one begins anew: what it has read may have been edited."""
    with wait_for_lock(lock, log, shared) as waited:
        if waited:
            os.execv(sys.executable, sys.orig_argv)
        yield


def _set_process_up() -> None:
    os.environ.update({**ONE_THREAD, **OFFLINE})
    if "DVC_ROOT" in os.environ:
        die_with_parent()
    signal.signal(signal.SIGTERM, _end_quietly)


def _parse(name: str, module, arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m pipeline {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return parser.parse_args(arguments)


def _job_at(ledger: Ledger, address: str) -> Job:
    entry = ledger.entries[address]
    name, *arguments = entry.command.split()[3:]
    module = importlib.import_module(f"pipeline.stages.{name}")
    return _open_job(module, _parse(name, module, arguments), ledger, entry)


def _open_job(module, args, ledger: Ledger, entry: StageEntry) -> Job:
    params = load_params(ledger.root / "params.yaml")
    _start_logging(params.runtime.log_level, ledger.root, entry)
    return Job(module, args, ledger, entry, params)


def _require_inputs(job: Job) -> None:
    missing = [path for path in job.entry.inputs if not is_url(path) and not (job.ledger.root / path).exists()]
    if missing:
        address = job.entry.address
        raise PipelineError(f"{address} needs {', '.join(missing)}; `dvc repro {address}` makes what is missing")


def _forget_rows_that_are_gone(job: Job) -> None:
    """In input folders where other jobs leave a file each, remove the files that no job of dvc.yaml makes.

    DVC hashes the whole folder: the file of a row that params.yaml no longer has would make a fresh clone, which never
    had that row, look stale. It is made again when the row comes back.
    """
    root, made = job.ledger.root, {Path(path) for entry in job.ledger.entries.values() for path in entry.outputs}
    for folder in {path.parent for path in made} & {Path(path) for path in job.entry.inputs if not is_url(path)}:
        kinds = {path.suffix for path in made if path.parent == folder}
        for path in sorted((root / folder).glob("*")):
            if path.is_file() and path.suffix in kinds and path.relative_to(root) not in made:
                log.info("removing %s, which params.yaml does not name any more", path.relative_to(root))
                path.unlink()


def _run_job(job: Job) -> None:
    _require_inputs(job)
    ledger, entry, root = job.ledger, job.entry, job.ledger.root
    key = receipts.job_key(ledger, entry, job.params)
    record = tracking.open_record(
        root,
        key,
        group=entry.key,
        engine=os.environ.get("PIPELINE_ENGINE", "dvc" if "DVC_ROOT" in os.environ else "manual"),
        device=job.params.runtime.device,
        git_commit=git_commit(root),
    )
    finals = [root / path for path in entry.outputs]
    stagings = [outputs.staging_of(path) for path in finals]
    stage = job.stage(key, record, stagings)
    started, status, taken = time.monotonic(), "FAILED", False
    try:
        outputs.prepare(stagings)
        with _disk_full_explained(entry.address):
            taken = _taken_back(job, stage)
            if not taken:
                receipts.forget_receipt(root, entry)
                note(root, "begun", entry.address, key.digest)
                _run_body(job.module, stage)
                outputs.finish(stagings, finals, entry.address)
                outputs.keep(stagings, stage.state_dir)
                _require_unchanged(job, key, stage.state_dir)
            outputs.publish(stagings, finals)
        receipts.write_receipt(ledger, entry, key, ledger.hashes(entry, "outputs"))
        note(root, "done", entry.address, key.digest)
        outputs.forget_others(stage.state_dir)
        status = "FINISHED"
    finally:
        for path in stagings:
            outputs.remove(path)
        if status == "FINISHED":
            record.outputs(receipts.read_receipt(root, entry)["outputs"])
        # Those of shards count once: an attempt that failed counts itself alone.
        costs = shard_costs(stage.state_dir) if status == "FINISHED" else []
        if not taken:  # what it took to make is not known
            costs.append({"wall_s": time.monotonic() - started, "peak_memory_mb": peak_memory_mb()})
        record.finish(status, costs)


def _run_body(module, stage: Stage) -> None:
    if hasattr(module, "make_parts"):
        module.merge(stage, module.make_parts(stage))
    else:
        module.run(stage)


def _require_unchanged(job: Job, key: tracking.RunKey, state: Path) -> None:
    """Raise PipelineError where something was edited while the job ran: DVC would take its result for the new one's.

    Parameters were read once, before; code and inputs may have been read both before and after.
    """
    now = receipts.job_key(job.ledger, job.entry, load_params(job.ledger.root / "params.yaml"))
    params, inputs, code = (
        sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        for before, after in ((key.params, now.params), (key.inputs, now.inputs), (key.code, now.code))
    )
    if inputs or code:
        shutil.rmtree(state, ignore_errors=True)
        fate = "it may be of both and is dropped"
    else:
        fate = "it is kept, and taken if the change is taken back"
    if edited := params + inputs + code:
        raise PipelineError(
            f"{job.entry.address}: {', '.join(edited)} changed while it ran; run it again. As to what it made, {fate}"
        )


def _taken_back(job: Job, stage: Stage) -> bool:
    """Take outputs that a run had finished when it was killed, before the ledger had them.

    What the ledger has and yet is to be run was damaged, or is forced: it is made anew.
    """
    receipt = receipts.read_receipt(job.ledger.root, job.entry)
    if receipt and receipts.entered(job.ledger, job.entry, receipt):
        return False
    if not outputs.take_back(stage.outputs, stage.state_dir):
        return False
    log.info("an earlier run had finished this; its outputs are taken")
    note(job.ledger.root, "taken", job.entry.address, stage.state_dir.name)
    return True


@contextlib.contextmanager
def _disk_full_explained(address: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not lacks_space(error):
            raise
        raise PipelineError(
            f"{address}: no space left on the disk; free some and run again (nothing half-written was kept)"
        ) from error


def _start_logging(level: str, root: Path, entry: StageEntry) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if os.environ.get("PIPELINE_ENGINE") != "snakemake":  # there the rule's log file takes what is printed
        path = root / "logs" / entry.name / f"{entry.key or 'all'}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w"))
    logging.basicConfig(
        level=level, format=f"%(asctime)s {entry.address}: %(message)s", datefmt="%H:%M:%S", handlers=handlers
    )
    for noisy in ("dvc", "httpx", "PIL", "matplotlib", "alembic", "mlflow", "dvc_data", "dvc_objects", "aiobotocore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def git_commit(root: Path) -> str | None:
    """The commit that is checked out; None without one, or without git."""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    except FileNotFoundError:
        return None


def _end_quietly(signum, frame) -> None:
    raise SystemExit(128 + signum)
