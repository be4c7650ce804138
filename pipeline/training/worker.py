"""A training's process, started by the launch: python -m pipeline.training.worker JOB.json."""

import logging
import sys
from pathlib import Path

from pipeline.engine.processes import die_with_parent
from pipeline.errors import PipelineError
from pipeline.training.job import FAILURE, Job
from pipeline.training.trainer import train


def main(path: Path) -> int:
    """Train; returns the exit code."""
    die_with_parent()
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        train(Job.read(path))
    except PipelineError as error:
        path.with_name(FAILURE).write_text(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
