"""The outputs of a job: written beside their places, kept until dvc.lock has them, and only then in place, whole."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from pipeline.engine.ledger import StageEntry
from pipeline.engine.parts import Shard, flush, link, parts_of, remove
from pipeline.engine.receipts import shard_receipt, signature, state_of
from pipeline.errors import PipelineError

SEALS = "done.json"  # beside what is kept


def staging_of(final: Path) -> Path:
    """Where an output is written before it gets its real name."""
    return final.with_name(f".{final.name}.partial{final.suffix}")


def prepare(stagings: list[Path]) -> None:
    """Make room for outputs: what a killed run left half-written goes, folders are made."""
    for path in stagings:
        remove(path)
        path.parent.mkdir(parents=True, exist_ok=True)


def finish(stagings: list[Path], finals: list[Path], address: str) -> None:
    """Bring written outputs to the disk. Raises PipelineError where a stage left one out."""
    for staging, final in zip(stagings, finals, strict=True):
        if not staging.exists():
            raise PipelineError(f"stage {address} ended without writing {final.name}; this is a bug of the stage")
        flush(staging)


def publish(stagings: list[Path], finals: list[Path]) -> None:
    """Give finished outputs their real names; a reader sees all of one or nothing."""
    for staging, final in zip(stagings, finals, strict=True):
        remove(final)
        staging.rename(final)


def keep(stagings: list[Path], state: Path) -> None:
    """Give finished outputs a second name in the state folder: until the ledger has them, a kill must not cost them."""
    kept, temporary = state / "done", state / ".done.partial"
    for path in (kept, temporary):
        remove(path)
    temporary.mkdir(parents=True)
    try:
        for number, staging in enumerate(stagings):
            link(staging, temporary / str(number))
        (state / SEALS).write_text(json.dumps(_seals(temporary)))
        temporary.rename(kept)
    finally:
        remove(temporary)


def take_back(stagings: list[Path], state: Path) -> bool:
    """Take outputs from the state folder, where a killed run left them whole; returns whether it did."""
    if not is_kept(state):
        return False
    for number, staging in enumerate(stagings):
        link(state / "done" / str(number), staging)
    return True


def is_kept(state: Path) -> bool:
    """Whether a state has a job's outputs, as they were when they were finished."""
    kept, seals = state / "done", state / SEALS
    return kept.exists() and seals.exists() and json.dumps(_seals(kept)) == seals.read_text()


def shard_is_done(root: Path, entry: StageEntry, shard: Shard, digest: str) -> bool:
    """Whether a shard has made its parts for the job of this digest, and they (or what came of them) are there."""
    path, state = root / shard_receipt(entry, shard), state_of(root, entry) / digest[:16]
    told, _, parts = path.read_text().partition(" ") if path.exists() else ("", "", "")
    if told != digest or not parts.isdigit():
        return False
    return len(parts_of(state, shard).own()) >= int(parts) or is_kept(state)


def _seals(kept: Path) -> dict[str, str]:
    """What changes when an output does. Of a file its content: Snakemake gives it a new time when its job is over."""
    return {path.name: signature(path) if path.is_dir() else _content(path) for path in sorted(kept.iterdir())}


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_aside(state: Path, things: Iterable[Path]) -> Path:
    """Take what is in a state to where no run finds it, but a user may put it back; returns where."""
    aside = state.with_name(f"{state.name}.doubtful")
    for path in things:
        target = aside / path.relative_to(state)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(target)
        path.rename(target)
    return aside


def forget_others(state: Path) -> None:
    """Remove what runs of other parameters or inputs left unfinished, and of this one all but what it has made."""
    kept = {state, *(state / name for name in ("done", SEALS, "costs"))}
    for path in (*state.parent.iterdir(), *state.iterdir()):
        if path not in kept:
            remove(path)
