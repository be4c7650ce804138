"""The paper's numbers, copied beside this file; they are shown apart and never mixed with ours."""

import csv
from pathlib import Path

FILE = Path(__file__).with_name("published_tables.csv")


def published_rows() -> list[dict[str, str]]:
    """Rows with table, backbone, train, init, start, fvd, is, rating, as printed in the paper."""
    with FILE.open(newline="") as lines:
        return list(csv.DictReader(lines))
