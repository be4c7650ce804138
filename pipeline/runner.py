"""Runs one stage: hands it what dvc.yaml declares and nothing else, makes its outputs atomic, and keeps its record.

A stage module has ``add_arguments(parser)`` and ``run(stage)``; one that is divided into parts has instead
``make_parts(stage)``, which returns their number, and ``merge(stage, number)``. See pipeline/stages.
"""

import argparse
import contextlib
import importlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import tracking
from pipeline.devices import choose_device
from pipeline.engine import edits, outputs, receipts
from pipeline.engine.costs import note_cost, peak_memory_mb, shard_costs
from pipeline.engine.journal import note
from pipeline.engine.ledger import Ledger, StageEntry
from pipeline.engine.parts import WHOLE, Parts, Shard, parts_of, remove
from pipeline.engine.processes import die_with_parent, wait_for_lock
from pipeline.errors import PipelineError, full_disk_explained
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
        "engine/edits",
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
    told: Mapping[str, str]  # content hashes of inputs that no job makes

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
            parts=parts_of(state, shard),
            record=record,
        )


def run_stage(name: str, arguments: list[str]) -> int:
    """Run ``python -m pipeline NAME ARGUMENTS``; returns the exit code."""
    _set_process_up()
    module = importlib.import_module(f"pipeline.stages.{name}")
    args = _parse(name, module, arguments)
    ledger = Ledger()
    job = _open_job(module, args, ledger, ledger.by_command([name, *arguments]), {})
    tracking.prepare_store(ledger.root)
    receipts.sweep(ledger)
    with _only_one(receipts.lock_file(ledger.root, job.entry)), full_disk_explained(job.entry.address):
        _forget_rows_that_are_gone(job)
        edits.require_inputs(ledger, job.entry)
        _run_job(job, receipts.job_key(ledger, job.entry, job.params))
    return 0


def run_job(address: str, joins: int = 1) -> int:
    """Run a job without DVC: its receipt is for the process that schedules the jobs. ``joins``: shards before it."""
    _set_process_up()
    ledger = Ledger(locked=False)
    job = _job_at(ledger, address, receipts.told_outside(ledger.root))
    tracking.prepare_store(ledger.root, ask_server=False)  # that process has asked
    with _only_one(receipts.lock_file(ledger.root, job.entry)), full_disk_explained(address):
        _forget_rows_that_are_gone(job)
        edits.require_inputs(ledger, job.entry)
        key = receipts.job_key(ledger, job.entry, job.params, job.told)
        if receipts.holds(ledger, job.entry, receipts.read_receipt(ledger.root, job.entry), key.digest):
            log.info("done already")
        elif _put_back(job, key):
            log.info("DVC has its result")
        else:
            _run_job(job, key, joins)
    return 0


def _put_back(job: Job, key: tracking.RunKey) -> bool:
    """Put a result that DVC has in its place; returns whether it had one."""
    ledger, entry, hashes = job.ledger, job.entry, key.inputs | key.code
    if not ledger.holds_result(entry, key.params, hashes):
        return False
    for path in entry.outputs:
        remove(ledger.root / path)
    if not ledger.put_back(entry, key.params, hashes):  # gone from the cache since
        return False
    receipts.write_receipt(ledger, entry, key, ledger.hashes(entry, "outputs"))
    return True


def run_shard(address: str, shard: Shard) -> int:
    """Make one shard's parts of a job; the job itself then finds them."""
    _set_process_up()
    ledger = Ledger(locked=False)
    job = _job_at(ledger, address, receipts.told_outside(ledger.root))
    entry, root = job.entry, ledger.root
    whole, own = (receipts.lock_file(root, entry, name) for name in ("", str(shard)))
    with _only_one(whole, shared=True), _only_one(own), full_disk_explained(address):
        edits.require_inputs(ledger, entry)
        key = receipts.job_key(ledger, entry, job.params, job.told)
        if outputs.shard_is_done(root, entry, shard, key.digest):
            log.info("done already")  # by one that Snakemake forgot when it was killed
            return 0
        stage, started, made = job.stage(key, tracking.NullRecord(), [], shard), time.monotonic(), None
        done = receipts.holds(ledger, entry, receipts.read_receipt(root, entry), key.digest)
        if done or outputs.is_kept(stage.state_dir) or ledger.holds_result(entry, key.params, key.inputs | key.code):
            log.info("nothing to do: the stage has its result")
        else:
            receipts.forget_receipt(root, entry)
            note(root, "begun", f"{address}#{shard}", key.digest)
            with edits.watched(ledger, entry, key, job.told, stage.parts):
                job.module.make_parts(stage)
            edits.require_same_params(ledger, entry, key)
            note_cost(stage.state_dir, shard, time.monotonic() - started)
            made = len(stage.parts.own())
        receipts.write_shard_receipt(root, entry, shard, key.digest, made)
        note(root, "done", f"{address}#{shard}", key.digest)
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


def _job_at(ledger: Ledger, address: str, told: Mapping[str, str]) -> Job:
    entry = ledger.entries[address]
    name, *arguments = entry.command.split()[3:]
    module = importlib.import_module(f"pipeline.stages.{name}")
    return _open_job(module, _parse(name, module, arguments), ledger, entry, told)


def _open_job(module, args, ledger: Ledger, entry: StageEntry, told: Mapping[str, str]) -> Job:
    params = load_params(ledger.root / "params.yaml")
    _start_logging(params.runtime.log_level, ledger.root, entry)
    return Job(module, args, ledger, entry, params, told)


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


def _run_job(job: Job, key: tracking.RunKey, joins: int = 1) -> None:
    """Run it, or take what an earlier run had finished. ``joins``: so many shards have made its parts."""
    ledger, entry, root = job.ledger, job.entry, job.ledger.root
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
        taken = _taken_back(job, stage)
        if not taken:
            receipts.forget_receipt(root, entry)
            note(root, "begun", entry.address, key.digest)
            with edits.watched(ledger, entry, key, {}, stage.parts, joins > 1):  # of data, too, it looks itself
                if joins > 1:
                    _require_shards(job, key, joins)
                _run_body(job.module, stage)
                outputs.finish(stagings, finals, entry.address)
            outputs.keep(stagings, stage.state_dir)
            edits.require_same_params(ledger, entry, key)
        outputs.publish(stagings, finals)
        receipts.write_receipt(ledger, entry, key, ledger.hashes(entry, "outputs"))
        note(root, "done", entry.address, key.digest)
        outputs.forget_others(stage.state_dir)
        status = "FINISHED"
    finally:
        for path in stagings:
            with contextlib.suppress(OSError):  # a disk that went read-only: its own error says more
                remove(path)
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


def _require_shards(job: Job, key: tracking.RunKey, count: int) -> None:
    """Raise PipelineError where shards made nothing for this: what joins them has neither their GPU nor their hours."""
    root, entry, shards = job.ledger.root, job.entry, [Shard(number, count) for number in range(count)]
    if lacking := [str(shard) for shard in shards if not outputs.shard_is_done(root, entry, shard, key.digest)]:
        raise PipelineError(
            f"{entry.address}: of its shards {', '.join(lacking[:5])} have made nothing of what is to be joined now, "
            f"perhaps because something was edited between them; start again"
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
