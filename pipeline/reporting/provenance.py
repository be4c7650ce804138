"""What the report says of its origin: commits, changes that no commit has, and hashes."""

import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.ledger import Ledger, StageEntry
from pipeline.tracking import Cost

FOUNDATIONS = ("clips", "encoders", "models", "moments", "detectors")  # folders whose content decides every number


@dataclass(frozen=True)
class StageRuns:
    """The tracked runs of one stage's jobs."""

    stage: str
    jobs: int  # of dvc.yaml
    recorded: int
    commits: Mapping[str, int]  # jobs by commit, "" where none was known


def stage_runs(entries: Mapping[str, StageEntry], costs: Sequence[Cost]) -> list[StageRuns]:
    """A line a stage, in the order of dvc.yaml; records of other jobs are left out."""
    known = {(cost.stage, cost.item): cost.commit for cost in costs}
    jobs: dict[str, list[tuple[str, str]]] = {}
    for entry in entries.values():
        jobs.setdefault(entry.name, []).append((entry.name, entry.key or ""))
    return [
        StageRuns(stage, len(own), len(found), Counter(found))
        for stage, own in jobs.items()
        for found in [[known[job] for job in own if job in known]]
    ]


def changed_files(ledger: Ledger) -> list[str]:
    """Tracked files that differ from the commit, without those that stages write; empty without git."""
    found = subprocess.run(
        ["git", "-C", str(ledger.root), "diff", "HEAD", "--name-only", "--relative", "-z"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [path for path in found.stdout.split("\0") if path and path != "dvc.lock" and not ledger.producer(path)]


def foundation_hashes(ledger: Ledger) -> dict[str, str]:
    """Content of clips, encoders, weights, moments and detectors, as dvc.lock has it."""
    found = {}
    for entry in ledger.entries.values():
        if any(Path(path).parts[0] in FOUNDATIONS for path in entry.outputs):
            found |= ledger.hashes(entry, "outputs")
    return found
