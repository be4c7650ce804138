"""Drop what no current row needs, after showing it."""

import argparse
import sys
from pathlib import Path

from pipeline.engine.ledger import Ledger
from pipeline.engine.leftovers import leftovers
from pipeline.engine.parts import remove
from pipeline.engine.processes import hold_folder
from pipeline.engine.snakemake_rules import LOCK
from pipeline.params.file import load_params
from pipeline.tools.project import sized


def run(arguments: list[str]) -> int:
    """``python -m pipeline clean-old``; the exit code is 1 where it was to be done and nobody agreed."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline clean-old",
        description="Drop what no current row of params.yaml needs: outputs, logs and states of rows that are gone, "
        "and what only they have in DVC's cache (earlier parameters of current rows included; what is in a DVC remote "
        "stays there). Shows it first, and asks.",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    args = parser.parse_args(arguments)
    hold_folder(LOCK)
    ledger = Ledger()
    paths = leftovers(ledger, load_params(ledger.root / "params.yaml"))
    files, size = ledger.unused_cache()
    if not paths and not files:
        print("nothing to drop: all that is here belongs to a current row")
        return 0
    for path in paths:
        print(f"{sized(_size(ledger.root / path)):>12}  {path}")
    print(f"{sized(size):>12}  {files} files of DVC's cache that no current row has")
    if not (args.yes or _agreed()):
        print("nothing was dropped; `make clean-old YES=1` does not ask")
        return 1
    for path in paths:
        remove(ledger.root / path)
    if files:
        ledger.drop_unused_cache()
    print("dropped")
    return 0


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _agreed() -> bool:
    return sys.stdin.isatty() and input("drop all of this? [y/N] ").strip().lower() in ("y", "yes")
