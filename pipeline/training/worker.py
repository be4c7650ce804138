"""A training's process, started by the launch: python -m pipeline.training.worker JOB.json."""

import logging
import sys
from contextlib import suppress
from pathlib import Path

from pipeline.engine.processes import die_with_parent
from pipeline.errors import PipelineError, full_disk_explained
from pipeline.training.job import FAILURE, Job


def main(path: Path) -> int:
    """Train; returns the exit code."""
    die_with_parent()
    from pipeline.training.trainer import train  # takes seconds, in which the parent may die

    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        with full_disk_explained("training"):
            train(Job.read(path))
    except PipelineError as error:
        logging.error("%s", error)
        with suppress(OSError), path.with_name(FAILURE).open("x") as file:  # the first to fail knows why; no room, then
            file.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
