"""Ratings of a user study, where there is one."""

import csv
from pathlib import Path

from pipeline.errors import PipelineError


def read_ratings(path: Path) -> dict[str, float]:
    """Mean rank of each run from a csv with the columns run and rating; raises PipelineError naming a wrong row."""
    ratings = {}
    with path.open(newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), 2):
            try:
                ratings[row["run"]] = float(row["rating"])
            except (KeyError, TypeError, ValueError):
                raise PipelineError(f"{path}, line {number}: expected the columns run and rating (a number)") from None
    return ratings
