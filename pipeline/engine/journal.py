"""A line for whatever a job begins and ends, in the order it happened: what was made, where, and whether twice."""

import contextlib
import json
import os
import time
from pathlib import Path

JOURNAL = Path(".state/journal.jsonl")


def note(root: Path, event: str, address: str, digest: str) -> None:
    """Append an event: ``begun`` and ``done``, or ``taken`` for outputs that a killed run had finished."""
    path = root / JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {
        "time": round(time.time(), 3), "event": event, "address": address, "digest": digest[:16],
        "host": os.uname().nodename, "process": os.getpid(),
    }  # fmt: skip
    with path.open("a") as file:  # one write, which the kernel appends whole
        file.write(json.dumps(line) + "\n")


def read_journal(root: Path) -> list[dict]:
    """All events, oldest first; none where nothing has run. A line that a crash cut off is left out."""
    if not (root / JOURNAL).exists():
        return []
    found = []
    for line in (root / JOURNAL).read_text().splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found
