"""Ratings of a user study, where there is one."""

import csv
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError


@dataclass(frozen=True)
class Rating:
    """Mean rank of one run; its interval is None where too few took part."""

    value: float
    low: float | None = None
    high: float | None = None
    participants: int | None = None

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" ({self.low:.2f}–{self.high:.2f})"
        count = "" if self.participants is None else f", n = {self.participants}"
        return f"{self.value:.2f}{interval}{count}"


def read_ratings(path: Path) -> dict[str, Rating]:
    """Of each run, from a csv with the columns run and rating, and low, high and participants where they are known.

    Raises PipelineError naming a wrong row.
    """
    ratings = {}
    with path.open(newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), 2):
            try:
                low, high = (float(row[name]) if row.get(name) else None for name in ("low", "high"))
                people = int(row["participants"]) if row.get("participants") else None
                ratings[row["run"]] = Rating(float(row["rating"]), low, high, people)
            except (KeyError, TypeError, ValueError):
                raise PipelineError(
                    f"{path}, line {number}: expected run and rating (a number), then low, high and participants "
                    "(numbers, or nothing)"
                ) from None
    return ratings
