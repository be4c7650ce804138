"""What the Snakefile asks: one rule a stage of dvc.yaml, and which of its jobs DVC calls stale."""

import re
import secrets
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.ledger import Ledger, StageEntry
from pipeline.engine.processes import hold_folder
from pipeline.errors import PipelineError

MARKERS = Path(".snakemake/stale")
LOCK = Path(".snakemake/pipeline.lock")
CAPTIONS = Path("docs/captions")  # outside pipeline/: no stage reruns when one changes


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
    def stage(self) -> str:
        return next(iter(self.entries.values())).name

    @property
    def keys_pattern(self) -> str:
        return "|".join(re.escape(key) for key in self.entries) or "none"

    def entry(self, wildcards) -> StageEntry:
        return self.entries[getattr(wildcards, "key", "")]

    def address(self, wildcards) -> str:
        return self.entry(wildcards).address


def rule_specs(ledger: Ledger) -> list[RuleSpec]:
    """The stages of dvc.yaml as rules: one a stage, or several where the outputs of its keys lie in several folders.

    Raises PipelineError where an output does not hold its key.
    """
    groups: dict[tuple[str, tuple[str, ...]], dict[str, StageEntry]] = {}
    for entry in ledger.entries.values():
        patterns = tuple(_with_wildcard(path, entry.key) for path in entry.outputs)
        groups.setdefault((entry.name, patterns), {})[entry.key or ""] = entry
    counts = Counter(name for name, _ in groups)
    return [
        _rule_spec(name if counts[name] == 1 else f"{name}_{Path(patterns[0]).parent.name}", list(patterns), entries)
        for (name, patterns), entries in groups.items()
    ]


def _rule_spec(name: str, patterns: list[str], entries: dict[str, StageEntry]) -> RuleSpec:
    key, first = next(iter(entries.items()))
    if key and any("{key}" not in pattern for pattern in patterns):
        raise PipelineError(f"dvc.yaml: outs of stage {first.name} must hold ${{key}}; {first.outputs} does not")
    item, stage = "{key}" if key else "all", first.name
    return RuleSpec(
        name, entries, patterns, f"logs/{stage}/{item}.log", f"logs/benchmarks/{stage}/{item}.tsv", first.meta
    )


def memory(spec: RuleSpec):
    """Memory of a rule's jobs as a function for Snakemake, MB: a job that is tried again gets more."""
    return lambda wildcards, attempt: spec.meta["mem_mb"] * attempt


def in_report(root: Path, stage: str, path: str) -> dict | None:
    """How ``snakemake --report`` shows an output, as arguments of its ``report()``; None where it does not.

    It shows what stages with a caption write: tables, figures and the page, not the pages in Markdown.
    """
    caption, shown = CAPTIONS / f"{stage}.rst", Path(path)
    if not (root / caption).is_file() or shown.suffix == ".md":
        return None
    words = {"caption": str(caption), "category": "User study" if stage == "ratings" else "Results"}
    if is_folder(path):  # without answers.csv, which names the participants' files
        tables = "{table,ratings|ranking|win_rates}.csv"
        return {**words, "patterns": [tables], "labels": {"what": "{table}", "kind": "csv"}}
    return {**words, "labels": {"what": shown.stem, "kind": shown.suffix.removeprefix(".")}}


def _with_wildcard(path: str, key: str | None) -> str:
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
