"""Rows a second of a listing as long as WebVid-2M's: what every shard pays before its own work.

    python benchmarks/listing.py [--rows 2500000]     # a minute

Baseline of the ratio: the csv module alone over the same file. A shard looks at the paths of its own rows only.
"""

import argparse
import csv
import tempfile
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import project  # noqa: F401  (finds the pipeline)

from pipeline.data.listings import read_listing

COLUMNS = SimpleNamespace(id="videoid", caption="name", folder="page_dir")


def write_listing(path: Path, rows: int) -> None:
    """As WebVid's: ids as large, folders of 50, captions of about 80 characters; one row in 10,000 is a repetition."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["videoid", "contentUrl", "duration", "page_dir", "name"])
        for number in range(rows):
            id = 1_000_000_000 + 7 * (number - (number % 10_000 == 9_999))
            page = f"{number // 50 * 50:06d}_{number // 50 * 50 + 49:06d}"
            caption = f"Aerial view of a city by the river, number {number}, with trees, cars and some people"
            writer.writerow([id, f"preview/{id}.mp4", "PT00H00M15S", page, caption])


def read_csv(path: Path) -> int:
    with path.open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def read_rows(path: Path, videos: Path, wanted) -> int:
    return sum(1 for _ in read_listing("webvid", path, videos, COLUMNS, "clip_sets.made", wanted))


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path, videos = Path(scratch) / "listing.csv", Path(scratch) / "videos"
        videos.mkdir()
        write_listing(path, rows)
        print(f"{rows:,} rows, {path.stat().st_size / 1e6:.0f} MB")
        print(f"{'':42} {'CPU s':>7} {'rows/s':>10} {'of csv':>7}")
        share = max(rows // 100, 1)
        ways = {
            "the csv module alone": lambda: read_csv(path),
            "a shard of a hundred (its paths looked at)": lambda: read_rows(
                path, videos, lambda number: number < share
            ),
            "every path looked at": lambda: read_rows(path, videos, None),
        }
        alone = None
        for name, way in ways.items():
            started = time.process_time()
            assert way() == rows
            spent = time.process_time() - started
            alone = alone or spent
            print(f"{name:42} {spent:7.1f} {rows / spent:10,.0f} {spent / alone:7.1f}")
        tracemalloc.start()
        read_rows(path, videos, lambda number: False)
        print(f"memory of a shard's reader: {tracemalloc.get_traced_memory()[1] / 1e6:.0f} MB at most")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_500_000)
    main(parser.parse_args().rows)
