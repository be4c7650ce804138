"""What the Snakefile asks: one rule a stage of dvc.yaml, and which of its jobs DVC calls stale."""

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.ledger import Ledger, StageEntry
from pipeline.engine.processes import hold_folder
from pipeline.errors import PipelineError

MARKERS = Path(".snakemake/stale")
LOCK = Path(".snakemake/pipeline.lock")


@dataclass(frozen=True)
class RuleSpec:
    """One stage of dvc.yaml as a rule; ``{key}`` stands for the foreach key in ``outputs`` and ``log``."""

    name: str
    entries: dict[str, StageEntry]  # by key; "" for a stage without keys
    outputs: list[str]
    log: str
    benchmark: str
    meta: dict

    @property
    def keys_pattern(self) -> str:
        return "|".join(re.escape(key) for key in self.entries) or "none"

    def entry(self, wildcards) -> StageEntry:
        return self.entries[getattr(wildcards, "key", "")]

    def address(self, wildcards) -> str:
        return self.entry(wildcards).address


def rule_specs(ledger: Ledger) -> list[RuleSpec]:
    """The stages of dvc.yaml as rules. Raises PipelineError where outputs do not follow one pattern in the key."""
    groups: dict[str, dict[str, StageEntry]] = {}
    for entry in ledger.entries.values():
        groups.setdefault(entry.name, {})[entry.key or ""] = entry
    return [_rule_spec(name, entries) for name, entries in groups.items()]


def _rule_spec(name: str, entries: dict[str, StageEntry]) -> RuleSpec:
    key, first = next(iter(entries.items()))
    patterns = [_with_wildcard(path, key) for path in first.outputs]
    for other, entry in entries.items():
        if [_with_wildcard(path, other) for path in entry.outputs] != patterns:
            raise PipelineError(
                f"dvc.yaml: outs of stage {name} must be one pattern in ${{key}}; {entry.outputs} is not"
            )
    item = "{key}" if key else "all"
    return RuleSpec(
        name, entries, patterns, f"logs/{name}/{item}.log", f"logs/benchmarks/{name}/{item}.tsv", first.meta
    )


def _with_wildcard(path: str, key: str) -> str:
    return path.replace(key, "{key}") if key else path


def mark_stale(ledger: Ledger) -> set[str]:
    """Addresses to run again, each with a marker file newer than its outputs."""
    stale = ledger.stale()
    MARKERS.mkdir(parents=True, exist_ok=True)
    for address in stale:
        marker(address).write_text(secrets.token_hex(8))
    return stale


def marker(address: str) -> Path:
    """The marker file of one job."""
    return MARKERS / address


def hold() -> int:
    """Refuse a second Snakemake in this folder."""
    return hold_folder(LOCK)


def is_folder(path: str) -> bool:
    """Outputs without a suffix are folders."""
    return not Path(path).suffix
