"""Receipts: what a finished job leaves beside its outputs, so that it can be entered in the ledger later.

DVC's locks do not reach other hosts, and it takes seconds to write a dvc.lock of hundreds of jobs. So a job of
Snakemake runs without DVC and leaves a receipt; the process that schedules the jobs, alone, enters receipted jobs into
dvc.lock. Until dvc.lock agrees with it, what a job has made is kept in its state folder, so that no kill in between
costs it.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from pipeline.engine.ledger import Ledger, Result, StageEntry
from pipeline.engine.parts import Shard, remove
from pipeline.engine.processes import try_lock
from pipeline.params.declared import declared_values
from pipeline.tracking import RunKey
from pipeline.urls import is_url

STATE = Path(".state")
RECEIPTS = STATE / "receipts"
OUTSIDE = STATE / "outside.json"
SNAKEMAKES = ".snakemake_timestamp"  # which it puts into a folder when the job that made it is over
log = logging.getLogger(__name__)


def state_of(root: Path, entry: StageEntry) -> Path:
    """Where a job keeps what an interrupted run goes on from; one sub-folder a digest."""
    return root / STATE / entry.name / (entry.key or "all")


def lock_file(root: Path, entry: StageEntry, shard: str = "") -> Path:
    """Held while the job (or one of its shards) runs, across hosts that share the folder."""
    return root / STATE / "locks" / f"{entry.address}{shard and '.' + shard}"


def write_receipt(ledger: Ledger, entry: StageEntry, key: RunKey, outputs: dict[str, str]) -> None:
    """Say that ``outputs``, content hashes by path, are what ``key`` gives."""
    receipt = {
        "digest": key.digest,
        "key": asdict(key),
        "outputs": outputs,
        "signatures": {path: signature(ledger.root / path) for path in entry.outputs},
        "host": os.uname().nodename,
    }
    path = ledger.root / RECEIPTS / f"{entry.address}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}")
    temporary.write_text(json.dumps(receipt))
    temporary.replace(path)


def read_receipt(root: Path, entry: StageEntry) -> dict | None:
    """The last receipt of a job; None where there is none that can be read."""
    try:
        return json.loads((root / RECEIPTS / f"{entry.address}.json").read_text())
    except (FileNotFoundError, ValueError):
        return None


def forget_receipt(root: Path, entry: StageEntry) -> None:
    """Before a job is done anew: until it is done, nothing says that it is."""
    (root / RECEIPTS / f"{entry.address}.json").unlink(missing_ok=True)


def shard_receipt(entry: StageEntry, shard: Shard) -> Path:
    """What says that a shard's parts are made, relative to the project's folder."""
    return STATE / "shards" / entry.name / (entry.key or "all") / str(shard)


def write_shard_receipt(root: Path, entry: StageEntry, shard: Shard, digest: str, parts: int | None) -> None:
    """Say that a shard has made so many parts for the job of this digest; None: the job has its result."""
    path = root / shard_receipt(entry, shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{digest} {'result' if parts is None else parts}")


def signature(path: Path) -> str:
    """Names, sizes and times of all files: equal means unchanged, at the cost of a listing. Empty where it is gone."""
    if not path.exists():
        return ""
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    try:
        for file in files:
            if file.name != SNAKEMAKES:
                about = file.stat()
                digest.update(f"{file.relative_to(path)}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    except FileNotFoundError:  # another process puts a new one in its place
        return ""
    return digest.hexdigest()


def tell_outside(ledger: Ledger, addresses: Iterable[str]) -> None:
    """Write down the content hashes of these jobs' inputs that no job makes, for the jobs that this process starts.

    DVC looks at every file of a data folder, and reads it where it knows the host not yet: not for each of its shards.
    """
    entries = (ledger.entries[address] for address in addresses)
    found: dict[str, str] = {}
    for entry in entries:
        outside = tuple(path for path in entry.inputs if path not in found and not ledger.upstream_of(path))
        found |= ledger.hashes(entry, "inputs", outside)
    path = ledger.root / OUTSIDE
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(found))
    temporary.replace(path)


def told_outside(root: Path) -> dict[str, str]:
    """What the process that schedules the jobs has told; nothing where there is none."""
    try:
        return json.loads((root / OUTSIDE).read_text())
    except (FileNotFoundError, ValueError):
        return {}


def input_hashes(ledger: Ledger, entry: StageEntry, told: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Content hashes of a job's inputs: from the receipts of those that made them while they are unchanged, or as
    ``told``, else DVC's.

    So a host need not read again what another has hashed when it wrote it.
    """
    known = {path: told[path] for path in entry.inputs if path in told}
    for path in entry.inputs:
        owner = ledger.producer(path)
        receipt = read_receipt(ledger.root, owner) if owner and path in owner.outputs else None
        if receipt and path in receipt["outputs"] and receipt["signatures"][path] == signature(ledger.root / path):
            known[path] = receipt["outputs"][path]
    rest = tuple(path for path in entry.inputs if path not in known)
    found = known | ledger.hashes(entry, "inputs", rest)
    return {path: found[path] for path in entry.inputs if path in found}


def holds(ledger: Ledger, entry: StageEntry, receipt: dict | None, digest: str) -> bool:
    """Whether the job of this digest is done and its outputs are as it left them.

    Snakemake gives every output a new time when its job is over, so that a single file's signature differs and its
    content decides.
    """
    if receipt is None or receipt["digest"] != digest or set(receipt["outputs"]) != set(entry.outputs):
        return False
    touched = tuple(path for path, found in receipt["signatures"].items() if signature(ledger.root / path) != found)
    return ledger.hashes(entry, "outputs", touched) == {path: receipt["outputs"][path] for path in touched}


def job_key(ledger: Ledger, entry: StageEntry, params, told: Mapping[str, str] = MappingProxyType({})) -> RunKey:
    """What makes a run of this job, now, the same run as another; ``params``: all of params.yaml."""
    return RunKey(
        stage=entry.name,
        item=entry.key or "",
        params=declared_values(params, entry.params),
        inputs=input_hashes(ledger, entry, told),
        code=ledger.hashes(entry, "code"),
        command=entry.command,
    )


def recorded_key(ledger: Ledger, entry: StageEntry, params) -> RunKey:
    """What made the run that dvc.lock records the run it was; ``params``: all of params.yaml, as it is now."""
    recorded, hashes = ledger.recorded(entry)
    current = declared_values(params, entry.params)
    values = current if current == recorded else recorded  # 3 and 3.0 are equal, but for a digest
    inputs, code = ({path: hashes[path] for path in paths if path in hashes} for paths in (entry.inputs, entry.code))
    return RunKey(entry.name, entry.key or "", values, inputs, code, entry.command)


def new_results(ledger: Ledger, params) -> list[Result]:
    """What was done without DVC and is not in dvc.lock; ``params``: all of params.yaml.

    A receipt of parameters, code or inputs that are no longer those of the project is of none: its job is stale.
    """
    new = []
    for entry in ledger.in_order():
        receipt = read_receipt(ledger.root, entry)
        if receipt is None or entered(ledger, entry, receipt):
            continue
        if all(is_url(path) or (ledger.root / path).exists() for path in entry.inputs):
            key = job_key(ledger, entry, params)
            if holds(ledger, entry, receipt, key.digest):
                new.append(Result(entry, key.params, key.inputs | key.code, receipt["outputs"]))
    return new


def enter(ledger: Ledger, results: list[Result]) -> None:
    """Enter results into dvc.lock, but for those that were edited meanwhile."""
    addresses = [entry.address for entry in ledger.commit(results)]
    if addresses:
        log.info("entered into dvc.lock: %s", ", ".join(addresses))


def entered(ledger: Ledger, entry: StageEntry, receipt: dict) -> bool:
    """Whether DVC has what a receipt says. Not by its outputs alone: an edit may give the same bytes."""
    key, outputs = receipt["key"], receipt["outputs"]
    known = ledger.knows(entry, key["params"], key["inputs"] | key["code"])
    return known and ledger.records(entry, outputs) and ledger.caches(entry)


def sweep(ledger: Ledger) -> None:
    """Remove the state of jobs that dvc.lock has as their receipts say; not of those that run."""
    for entry in ledger.entries.values():
        states = state_of(ledger.root, entry)
        receipt = read_receipt(ledger.root, entry) if states.exists() else None
        if receipt is None or not entered(ledger, entry, receipt):
            continue
        with try_lock(lock_file(ledger.root, entry)) as free:
            if free:
                remove(states / receipt["digest"][:16])
                with contextlib.suppress(OSError):  # it holds others, or another process was faster
                    states.rmdir()
