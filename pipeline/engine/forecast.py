"""What would run, why, and what it would take: stale jobs with hours and disk from the records of earlier ones."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import mean

from pipeline.engine.ledger import Ledger, StageEntry
from pipeline.errors import PipelineError
from pipeline.tracking import Cost


@dataclass(frozen=True)
class Planned:
    """One job that would run. Hours: of one device; None where no job of its stage was ever recorded."""

    entry: StageEntry
    reasons: list[str]
    hours: float | None
    exact: bool  # from a record of this very job; else the mean of its stage's
    devices: int
    disk: int | None  # bytes of its outputs; None where none of its stage is known

    @property
    def shards(self) -> int:
        return int(self.entry.meta.get("shards", 1))


def forecast(ledger: Ledger, targets: Iterable[str], costs: Iterable[Cost], processes: int) -> list[Planned]:
    """The stale jobs that ``targets`` need (paths, STAGE or STAGE@KEY; all where there is none), in running order.

    ``processes``: of a training, each on a device of its own.

    Raises PipelineError for a target that nothing makes.
    """
    wanted = needed(ledger, targets)
    changed = ledger.changes()
    stale = ledger.closed_downstream(changed)
    known = {(cost.stage, cost.item): cost.wall_s / 3600 for cost in costs}
    sizes = {_job(address): size for address, size in ledger.recorded_sizes().items()}
    return [
        Planned(
            entry=entry,
            reasons=_reasons(ledger, entry, changed, stale),
            hours=_estimate(known, (entry.name, entry.key or "")),
            exact=(entry.name, entry.key or "") in known,
            devices=processes if entry.meta["gpu"] > 1 else 1,
            disk=_estimate(sizes, (entry.name, entry.key or "")),
        )
        for entry in ledger.in_order()
        if entry.address in stale and entry.address in wanted
    ]


def needed(ledger: Ledger, targets: Iterable[str]) -> set[str]:
    """Addresses of the jobs that make the targets, and of all they rest on."""
    targets = list(targets)
    if not targets:
        return set(ledger.entries)
    waiting = [address for target in targets for address in _makers(ledger, target)]
    found: set[str] = set()
    while waiting:
        address = waiting.pop()
        if address not in found:
            found.add(address)
            waiting += ledger.upstream(ledger.entries[address])
    return found


def _makers(ledger: Ledger, target: str) -> list[str]:
    if target in ledger.entries:
        return [target]
    of_stage = [address for address, entry in ledger.entries.items() if entry.name == target]
    owners = [owner.address for path in ledger.upstream_paths(target.rstrip("/")) if (owner := ledger.producer(path))]
    if not (of_stage or owners):
        raise PipelineError(f"{target!r} is no stage, no job and no output of dvc.yaml; `make plan` alone lists all")
    return of_stage or owners


def _reasons(ledger: Ledger, entry: StageEntry, changed: Mapping[str, list[str]], stale: set[str]) -> list[str]:
    """What DVC says of the job itself; for one that only follows, what it follows."""
    own = changed.get(entry.address)
    if own:
        return own
    before = sorted(address for address in ledger.upstream(entry) if address in stale)
    return [f"follows {before[0]}" + (f" and {len(before) - 1} more" if len(before) > 1 else "")]


def _job(address: str) -> tuple[str, str]:
    name, _, key = address.partition("@")
    return name, key


def _estimate(known: Mapping[tuple[str, str], float], job: tuple[str, str]) -> float | None:
    if job in known:
        return known[job]
    same = [value for (stage, _), value in known.items() if stage == job[0]]
    return mean(same) if same else None
