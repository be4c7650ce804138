"""What is edited while a job works: found however the job ends, so that nothing half old, half new is gone on with."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.engine.ledger import Ledger, StageEntry
from pipeline.engine.outputs import set_aside
from pipeline.engine.parts import WHOLE, Parts, Shard
from pipeline.engine.processes import try_lock
from pipeline.engine.receipts import input_hashes, lock_file
from pipeline.errors import PipelineError, one_line
from pipeline.params.declared import declared_values
from pipeline.params.file import load_params
from pipeline.tracking import RunKey
from pipeline.urls import is_url

log = logging.getLogger(__name__)


@contextlib.contextmanager
def watched(ledger: Ledger, entry: StageEntry, key: RunKey, told: Mapping, parts: Parts) -> Iterator[None]:
    """Around the work of a job, or of the shard of ``parts``: its code and inputs must be the same at the end.

    It may have read them both before an edit and after. What it made is then set aside, and PipelineError says so. A
    mark in the state tells the next attempt that one was killed before it could look; ``told``: see ``input_hashes``.
    """
    state = parts.folder.parent
    for mark in sorted(state.glob("begun.*")):
        _look_after(ledger, entry, mark, parts)
    mark = state / f"begun.{parts.shard}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        yield
    except BaseException as error:
        if edited := _look(ledger, entry, key, told)[0]:
            raise _doubtful(ledger, entry, edited, mark, parts, f" (it ended with: {one_line(error)})") from error
        mark.unlink(missing_ok=True)
        raise
    edited, gone = _look(ledger, entry, key, told)
    if edited:
        raise _doubtful(ledger, entry, edited, mark, parts)
    mark.unlink(missing_ok=True)
    if gone:
        raise PipelineError(
            f"{entry.address}: {', '.join(gone)} went away while it ran; mend that and run again, finished parts stay"
        )


def require_same_params(ledger: Ledger, entry: StageEntry, key: RunKey) -> None:
    """Raise PipelineError where declared parameters are others now: they were read once, before the work."""
    params = load_params(ledger.root / "params.yaml")
    try:
        now = declared_values(params, entry.params)
    except (KeyError, AttributeError):  # its row is gone
        now = {}
    if edited := sorted(name for name in key.params if name not in now or key.params[name] != now[name]):
        raise PipelineError(
            f"{entry.address}: {', '.join(edited)} changed while it ran; run it again. What it made is kept, and taken "
            f"if the change is taken back"
        )


def require_inputs(ledger: Ledger, entry: StageEntry) -> None:
    """Raise PipelineError where an input is not there."""
    missing = [path for path in entry.inputs if not is_url(path) and not (ledger.root / path).exists()]
    if missing:
        address = entry.address
        raise PipelineError(f"{address} needs {', '.join(missing)}; `dvc repro {address}` makes what is missing")


def _look(ledger: Ledger, entry: StageEntry, key: RunKey, told: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Inputs and code that are others than in ``key``; inputs that are not there any more, which nobody has edited."""
    inputs, code = input_hashes(ledger, entry, told), ledger.hashes(entry, "code")
    gone = {path for path in key.inputs if path not in inputs or _is_gone(ledger.root, path)}
    edited = {path for path in inputs if path not in gone and inputs[path] != key.inputs.get(path)}
    edited |= {path for path in code.keys() | key.code.keys() if code.get(path) != key.code.get(path)}
    return sorted(edited), sorted(gone)


def _is_gone(root: Path, path: str) -> bool:
    """Whether a file or folder is not there, or empty, which is what stays of a folder where a disk was mounted."""
    place = root / path
    return not is_url(path) and (not place.exists() or (place.is_dir() and not any(place.iterdir())))


def _doubtful(ledger, entry: StageEntry, edited: list[str], mark: Path, parts: Parts, why: str = "") -> PipelineError:
    """Set aside what was made; what is to be said then."""
    aside = _set_aside(parts)
    mark.unlink(missing_ok=True)
    return PipelineError(
        f"{entry.address}: {', '.join(edited)} changed while it ran; run it again{why}. What it made may be of both "
        f"and lies in {aside.relative_to(ledger.root)} now; if the change cannot matter, take it back and move what "
        f"lies there to {parts.folder.parent.name} beside it, before a next run removes it"
    )


def _look_after(ledger: Ledger, entry: StageEntry, mark: Path, parts: Parts) -> None:
    """Of an attempt that was killed, set aside what it made where code has been edited since it began."""
    shard = Shard.parse(mark.name.removeprefix("begun."))
    if shard in (parts.shard, WHOLE) or parts.shard == WHOLE:  # whose locks this process holds
        dead = contextlib.nullcontext(True)
    else:
        dead = try_lock(lock_file(ledger.root, entry, str(shard)))
    with dead as is_dead:
        if not is_dead:
            return
        if _edited_since(ledger.root, entry, mark):
            aside = _set_aside(Parts(parts.folder, shard)).relative_to(ledger.root)
            log.warning("code was edited since a run that was killed had begun; what it made lies in %s now", aside)
        mark.unlink(missing_ok=True)


def _set_aside(parts: Parts) -> Path:
    """The parts of a shard, or the whole state but for the marks."""
    state = parts.folder.parent
    whole = [path for path in state.iterdir() if not path.name.startswith("begun.")]
    return set_aside(state, whole if parts.shard == WHOLE else parts.own())


def _edited_since(root: Path, entry: StageEntry, mark: Path) -> bool:
    began, places = mark.stat().st_mtime, [root / path for path in entry.code]
    files = [file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place])]
    return any(file.stat().st_mtime > began for file in files if file.exists())
