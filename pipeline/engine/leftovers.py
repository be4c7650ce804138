"""What lies in the project's folder and no current row needs: outputs of rows that are gone, old states and logs."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.engine.ledger import Ledger
from pipeline.engine.parts import Shard
from pipeline.engine.receipts import RECEIPTS, STATE, job_key, shard_receipt, state_of
from pipeline.params.file import Params
from pipeline.urls import is_url


def leftovers(ledger: Ledger, params: Params) -> list[Path]:
    """Paths to be removed, relative to the project's folder, none inside another."""
    found = {*_outputs(ledger), *_states(ledger, params), *_logs(ledger)}
    return sorted(path for path in found if not any(parent in found for parent in path.parents))


def _outputs(ledger: Ledger) -> Iterator[Path]:
    """Neighbours of the outputs of stages with keys, which no job of dvc.yaml makes."""
    entries = ledger.entries.values()
    inputs = {Path(path) for entry in entries for path in entry.inputs if not is_url(path)}  # a user's own among them
    current = inputs | {Path(path) for entry in entries for path in entry.outputs}
    around = {parent for path in current for parent in path.parents}
    folders = {Path(path).parent for entry in ledger.entries.values() if entry.key for path in entry.outputs}
    for folder in folders:
        for path in (ledger.root / folder).glob("*"):
            inside = path.relative_to(ledger.root)
            if inside not in current and inside not in around and not path.name.startswith("."):
                yield inside


def _states(ledger: Ledger, params: Params) -> Iterator[Path]:
    """Of jobs that are gone: states, shards and receipts. Of the others: all states but the last, and today's."""
    entries = list(ledger.entries.values())
    states = {state_of(Path(), entry) for entry in entries}
    shards = {shard_receipt(entry, Shard()).parent for entry in entries}
    names = {f"{entry.address}.json" for entry in entries}
    for path in (ledger.root / STATE).glob("*/*"):
        inside, kind = path.relative_to(ledger.root), path.parent.name
        known = names if kind == RECEIPTS.name else {state.name for state in states if state.parent.name == kind}
        if kind not in ("locks", "shards") and inside.name not in known:
            yield inside
    for path in (ledger.root / STATE / "shards").glob("*/*"):
        if path.relative_to(ledger.root) not in shards:
            yield path.relative_to(ledger.root)
    for entry in entries:
        found = sorted(state_of(ledger.root, entry).glob("*"), key=lambda path: path.stat().st_mtime)
        if len(found) > 1:
            kept = {found[-1].name, job_key(ledger, entry, params).digest[:16]}
            yield from (path.relative_to(ledger.root) for path in found if path.name not in kept)


def _logs(ledger: Ledger) -> Iterator[Path]:
    """Logs and benchmarks of jobs that are gone."""
    jobs = {(entry.name, entry.key or "all") for entry in ledger.entries.values()}
    for folder in (ledger.root / "logs", ledger.root / "logs/benchmarks"):
        for path in folder.glob("*/*"):
            if path.parent.name not in ("benchmarks", "slurm") and (path.parent.name, path.stem) not in jobs:
                yield path.relative_to(ledger.root)
