"""Every writer while its disk is full, then with space.

    python benchmarks/full_disk.py [STAGE …]       # root: mounts small file systems; these stages alone

A job of each stage of the smoke preset runs while the disk of its outputs is full, and again where half of them fits;
where it writes parts or training states, the same with the disk of its state. It must fail, say why, and leave nothing
half-written; then, with space and on the very disk that was full, go on to its end. Also DVC's folder (cache, lock)
while Snakemake's process enters what was done. In the end every output must be that of an undisturbed run.
"""

import argparse
import contextlib
import importlib
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faults import UNTRACKED, different_outputs, last_words, project, rows_lost, start

from pipeline.engine.journal import read_journal
from pipeline.engine.ledger import Ledger
from pipeline.engine.parts import remove
from pipeline.engine.receipts import state_of, sweep

LARGE = 1 << 20  # bytes of outputs, from which on half of them are tried, too
SETTLE = "import logging; logging.basicConfig(); from pipeline.engine.snakemake_rules import settle; settle('.')"
ENTERED = "preprocess@webvid_fixed"
SAID = ("o space left on", "make room and run again")  # the second: a training's state


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="of dvc.yaml; all where there is none")
    only = parser.parse_args().stages
    with tempfile.TemporaryDirectory() as scratch:
        folder, whole = project(Path(scratch) / "full", {}), project(Path(scratch) / "whole", {})
        wrong, seen = entering_without_space(folder), set()
        assert {entry.name for entry in Ledger(folder).in_order()} >= set(only), f"no such stages: {only}"
        for entry in Ledger(folder).in_order():
            if entry.name in seen or (only and entry.name not in only):
                assert start(folder, *command_of(entry)).wait() == 0, last_words(folder)
            else:
                wrong += stage_without_space(folder, entry)
                seen.add(entry.name)
        assert start(whole, "dvc", "repro", "--quiet").wait() == 0, last_words(whole)
        different = [name for name in different_outputs(whole, folder) if name not in ("compute", "report")]
        print(f"outputs other than undisturbed: {different or 'none'}")
        lost, changed = rows_lost(folder), sorted(Ledger(folder).changes())
        print(f"rows lost: {lost or 'none'}; jobs whose outputs are not those of dvc.lock: {changed or 'none'}")
        wrong += len(different) + len(lost) + len(changed)
        print(f"{len(seen)} stages, {wrong} things wrong")
        return wrong


def command_of(entry) -> list[str]:
    return ["dvc", "repro", "--quiet", "--single-item", entry.address]


def stage_without_space(folder: Path, entry) -> int:
    """All cases of one job, from the smallest room on, each gone on with; returns how many went wrong."""
    (outputs,) = {(folder / path).parent for path in entry.outputs}
    places = [outputs] if outputs != folder else []  # where DVC itself could not begin
    if keeps_state(entry):
        places.append(state_of(folder, entry))
    wrong = sum(not goes_on_after_full(Case(folder, entry, place, 0)) for place in places)
    if not places:
        assert start(folder, *command_of(entry)).wait() == 0, last_words(folder)
    size = size_of(folder / path for path in entry.outputs)
    if size >= LARGE:
        places = [outputs, *places[1:]]
        wrong += sum(not goes_on_after_full(Case(folder, entry, place, size // 2)) for place in places)
    return wrong


def keeps_state(entry) -> bool:
    """Whether a job writes parts or training states before its outputs."""
    stage = importlib.import_module(f"pipeline.stages.{entry.command.split()[3]}")
    return hasattr(stage, "make_parts") or entry.name in ("initialise", "finetune", "claims_seed")


@dataclass(frozen=True)
class Case:
    """A job whose ``place`` has so many bytes free."""

    folder: Path
    entry: object
    place: Path
    free: int


def goes_on_after_full(case: Case) -> bool:
    """Run a job on a full disk, then with space; whether it began, failed, said so, left nothing, then ended well."""
    folder, entry = case.folder, case.entry
    outputs, log = [folder / path for path in entry.outputs], folder.parent / "full.log"
    sweep(Ledger(folder))  # else the job itself makes room by it
    for output in outputs:
        remove(output)
    begun = len(read_journal(folder))
    with full_disk(case.place, case.free) as make_room:
        with log.open("w") as file:  # --force: else DVC has the result
            command = [*command_of(entry), "--force"]
            code = subprocess.run(command, cwd=folder, env=UNTRACKED, stdout=file, stderr=file).returncode
        left = [path.name for path in outputs if path.exists()] + [path.name for path in folder.rglob(".*.partial*")]
        began = len(read_journal(folder)) > begun
        make_room()
        again = start(folder, *command_of(entry), "--force").wait()
    text = log.read_text()
    said, traceback = any(words in text for words in SAID), "Traceback" in text
    room = f"{case.place.relative_to(folder)}, {case.free / 1e6:.1f} MB free"
    told = "traceback" if traceback else said
    verdict = f"began: {began}, exit {code}, says why: {told}, left: {left or 'nothing'}, with space: exit {again}"
    print(f"{entry.address:40} {room:50} {verdict}", flush=True)
    return began and code != 0 and said and not traceback and not left and again == 0


def entering_without_space(folder: Path) -> int:
    """What Snakemake's process does with a receipt while DVC's folder is full, then with space."""
    job = ["python", "-m", "pipeline.engine.job", ENTERED]
    assert start(folder, *job).wait() == 0, last_words(folder)
    before = (folder / "dvc.lock").read_bytes()
    with full_disk(folder / ".dvc", 0) as make_room:
        done = run(folder, "python", "-c", SETTLE)
        look = run(folder, "snakemake", "-n", "--cores", "1", f"clips/{ENTERED.split('@')[1]}")
        same = (folder / "dvc.lock").read_bytes() == before
        make_room()
        run(folder, "python", "-c", SETTLE)
    entered = ENTERED not in Ledger(folder).changes()
    says = "o space left on" in done.stdout or "is its disk full" in done.stdout
    traceback = "Traceback" in done.stdout or "Traceback" in look.stdout
    print(
        f"entering {ENTERED}, .dvc full: exit {done.returncode}, says why: {says}, "
        f"a look then: exit {look.returncode}, traceback: {traceback}, dvc.lock as before: {same}, "
        f"with space entered: {entered}",
        flush=True,
    )
    return int(done.returncode != 0) + (not says) + traceback + (not same) + (not entered)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=folder, env=UNTRACKED, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


def size_of(paths) -> int:
    """Bytes of files and folders."""
    files = (path for place in paths for path in (place.rglob("*") if place.is_dir() else [place]))
    return sum(path.stat().st_size for path in files if path.is_file())


@contextlib.contextmanager
def full_disk(place: Path, free: int) -> Iterator:
    """What lies in the folder ``place``, on a file system of its own with so many bytes left; gives what makes room.

    In the end the folder has what was there then.
    """
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as other:
        size = 2 * size_of([place]) + (256 << 20)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", other], check=True)
        try:
            subprocess.run(["cp", "--archive", f"{place}/.", other], check=True)
            ballast = Path(other) / "ballast"
            with ballast.open("wb", buffering=0) as file:
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(1 << 16))
                file.truncate(max(0, file.tell() - free))
            subprocess.run(["mount", "--bind", other, place], check=True)
            try:
                yield ballast.unlink
            finally:
                subprocess.run(["umount", place], check=True)
            for path in place.iterdir():
                remove(path)
            subprocess.run(["cp", "--archive", f"{other}/.", place], check=True)
        finally:
            subprocess.run(["umount", other], check=True)


if __name__ == "__main__":
    raise SystemExit(main())
