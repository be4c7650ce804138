"""What is edited while a job works: found however the job ends, so that nothing half old, half new is gone on with."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.engine.ledger import Ledger, StageEntry
from pipeline.engine.outputs import set_aside
from pipeline.engine.parts import ANEW, WHOLE, Parts, Shard, begin_anew
from pipeline.engine.processes import try_lock
from pipeline.engine.receipts import input_hashes, lock_file
from pipeline.errors import DataChanged, PipelineError, one_line
from pipeline.params.declared import declared_values
from pipeline.params.file import load_params
from pipeline.tracking import RunKey
from pipeline.urls import is_url

JOIN = "join"  # the mark of a job whose shards have made the parts


@contextlib.contextmanager
def watched(
    ledger: Ledger, entry: StageEntry, key: RunKey, told: Mapping[str, str], parts: Parts, joins: bool = False
) -> Iterator[None]:
    """Around the work of a job, or of the shard of ``parts``: its code and inputs must be the same at the end.

    It may have read them both before an edit and after. What it made is then set aside, and PipelineError says so; of
    one that was killed before it could look, a mark in the state tells the next attempt. ``told``: see
    ``input_hashes``; ``joins``: shards have made all parts.
    """
    state, name = parts.folder.parent, JOIN if joins else str(parts.shard)
    _look_after_the_killed(ledger, entry, parts, name)
    mark = state / f"begun.{name}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        yield
    except DataChanged as error:
        begin_anew(state)
        mark.unlink(missing_ok=True)
        raise PipelineError(f"{error}. No part that was made before counts any more") from None
    except BaseException as error:
        with contextlib.suppress(OSError):  # what cannot be looked at now is not the trouble; the mark stays
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
    try:
        return not is_url(path) and (not place.exists() or (place.is_dir() and not any(place.iterdir())))
    except OSError:  # a handle of a file server that is gone
        return True


def _doubtful(ledger, entry: StageEntry, edited: list[str], mark: Path, parts: Parts, why: str = "") -> PipelineError:
    """Set aside what was made; what is to be said then."""
    aside = _set_aside(mark, parts)
    mark.unlink(missing_ok=True)
    return PipelineError(
        f"{entry.address}: {', '.join(edited)} changed while it ran; run it again{why}. {_where(ledger, aside)}"
    )


def _where(ledger: Ledger, aside: Path) -> str:
    return (
        f"What it made may be of both and lies in {aside.relative_to(ledger.root)} now; if the change cannot matter, "
        f"take it back and move what lies there to {aside.stem} beside it, before the next run, which removes it"
    )


def _look_after_the_killed(ledger: Ledger, entry: StageEntry, parts: Parts, own: str) -> None:
    """Set aside what attempts made that were killed, where code has been edited since they began; PipelineError then.

    Only one process looks at a mark: it holds the lock of the shard that left it.
    """
    edited: set[str] = set()
    for mark in sorted(parts.folder.parent.glob("begun.*")):
        name = mark.name.removeprefix("begun.")
        lock = lock_file(ledger.root, entry, name)
        with contextlib.nullcontext(True) if name == own else try_lock(lock) as is_dead:
            if not is_dead or not mark.exists():
                continue
            if files := _edited_since(ledger.root, entry, mark):
                edited |= files
                aside = _set_aside(mark, parts)
            mark.unlink()
    if edited:
        raise PipelineError(
            f"{entry.address}: {', '.join(sorted(edited))} edited since a run began that was killed; start again to "
            f"do it anew. {_where(ledger, aside)}"
        )


def _set_aside(mark: Path, parts: Parts) -> Path:
    """What the attempt of a mark made: a shard its parts, a whole job all, one that joins all but the parts."""
    state, name = mark.parent, mark.name.removeprefix("begun.")
    kept = ("begun.", ANEW)
    others = [path for path in state.iterdir() if not path.name.startswith(kept) and path != parts.folder]
    if name == JOIN:
        return set_aside(state, others)
    own = Parts(parts.folder, Shard.parse(name)).own()
    return set_aside(state, [*own, *others] if name == str(WHOLE) else own)


def _edited_since(root: Path, entry: StageEntry, mark: Path) -> set[str]:
    """Files of a job's code that are newer than a mark."""
    began, places = mark.stat().st_mtime, [root / path for path in entry.code]
    files = [file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place])]
    return {str(file.relative_to(root)) for file in files if file.exists() and file.stat().st_mtime > began}
