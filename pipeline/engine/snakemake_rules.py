"""What the Snakefile asks: one rule a stage of dvc.yaml, and which of its jobs DVC calls stale."""

import logging
import re
import secrets
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine import outputs
from pipeline.engine.ledger import Ledger, StageEntry
from pipeline.engine.parts import Shard
from pipeline.engine.processes import hold_folder
from pipeline.engine.receipts import (
    enter,
    job_key,
    new_results,
    recorded_key,
    shard_receipt,
    state_of,
    sweep,
    tell_outside,
    told_outside,
)
from pipeline.errors import PipelineError, full_disk_explained
from pipeline.params.file import Params, load_params

log = logging.getLogger(__name__)
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

    @property
    def shards(self) -> int:
        return int(self.meta.get("shards", 1))

    @property
    def shard_receipt(self) -> str:
        """Output of a shard's job, with the wildcards ``key`` and ``shard``."""
        first = next(iter(self.entries.values()))
        folder = shard_receipt(first, Shard()).parent
        return str(folder.with_name("{key}" if first.key else folder.name) / f"{{shard}}-of-{self.shards}")

    @property
    def shard_log(self) -> str:
        return self.log.removesuffix(".log") + f"/shard-{{shard}}-of-{self.shards}.log"

    def shard_receipts(self, entry: StageEntry) -> list[str]:
        """What all shards of a job leave; empty where it is not divided."""
        if self.shards == 1:
            return []
        return [str(shard_receipt(entry, Shard(number, self.shards))) for number in range(self.shards)]

    def gpus(self, of_shard: bool) -> int:
        """A job whose shards have done the work only joins their parts."""
        return self.meta["gpu"] if of_shard or self.shards == 1 else 0

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


def growing(spec: RuleSpec, what: str):
    """A rule's ``mem_mb`` or ``minutes`` as a function for Snakemake: a job that is tried again gets more."""
    return lambda wildcards, attempt: spec.meta[what] * attempt


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


def open_ledger(root: Path | str, alone: bool) -> tuple[Ledger, set[str]]:
    """The ledger as it is before a run, and the addresses of the jobs to run again.

    ``alone``: no other Snakemake works in this folder; where one does, nothing is written.
    """
    params = load_params(Path(root) / "params.yaml")
    if not alone:
        ledger = Ledger(root, locked=False)
        return ledger, ledger.stale()
    with full_disk_explained("what earlier runs have left cannot be entered"):
        ledger = _settled(root, params)
        return ledger, mark_stale(ledger, params)


def settle(root: Path | str) -> None:
    """After a run: enter what was done without DVC. Parameters are read anew: they may have been edited meanwhile."""
    try:
        with full_disk_explained("dvc.lock or DVC's cache"):
            _settled(root, load_params(Path(root) / "params.yaml"))
    except PipelineError as error:
        log.warning("not all that was done is in dvc.lock yet, the next run enters it: %s", error)


def _settled(root: Path | str, params: Params) -> Ledger:
    """The ledger, with what was done without DVC entered, and the state that nobody needs any more removed."""
    ledger = Ledger(root)
    if new := new_results(ledger, params):
        enter(ledger, new)
        ledger = Ledger(root)  # DVC has looked at its stages
    sweep(ledger)
    return ledger


def mark_stale(ledger: Ledger, params: Params) -> set[str]:
    """Addresses to run again, each with a marker file newer than its outputs; receipts of other shards are removed."""
    stale = ledger.stale()
    for address in stale:
        keep_from_git(ledger, ledger.entries[address], params)
    tell_outside(ledger, stale)
    told = told_outside(ledger.root)
    MARKERS.mkdir(parents=True, exist_ok=True)
    made_again = {path for address in stale for path in ledger.entries[address].outputs}
    for address in stale:
        marker(address).write_text(secrets.token_hex(8))
        entry = ledger.entries[address]
        receipts = list((ledger.root / shard_receipt(entry, Shard())).parent.glob("*-of-*"))
        if not receipts:
            continue
        fresh = not any(up in made_again for path in entry.inputs for up in ledger.upstream_paths(path))
        digest = job_key(ledger, entry, params, told).digest if fresh else ""
        for path in receipts:
            if not outputs.shard_is_done(ledger.root, entry, Shard.parse(path.name), digest):
                path.unlink()
    return stale


def keep_from_git(ledger: Ledger, entry: StageEntry, params: Params) -> None:
    """Keep a result that only git has in the state of the run that gave it.

    In a fresh clone a job's inputs are made anew, mostly to the same bytes. DVC then leaves its outputs as they are;
    Snakemake removes them before the job, which finds them in its state, as if it had been killed at its end.
    """
    if not ledger.only_git_has(entry):
        return
    state = state_of(ledger.root, entry) / recorded_key(ledger, entry, params).digest[:16]
    if not (state / "done").exists():
        outputs.keep([ledger.root / path for path in entry.outputs], state)


def marker(address: str) -> Path:
    """The marker file of one job."""
    return MARKERS / address


def hold() -> bool:
    """Be the only Snakemake that works in this folder; returns whether it is. One that only looks need not be."""
    try:
        hold_folder(LOCK)
    except PipelineError:
        return False
    return True


def require_alone(alone: bool) -> None:
    """Raise PipelineError where another Snakemake works in this folder, or did when this one looked at it."""
    if not alone:
        hold_folder(LOCK)
        raise PipelineError("another pipeline worked in this folder until a moment ago; start again")


def is_folder(path: str) -> bool:
    """Outputs without a suffix are folders."""
    return not Path(path).suffix
