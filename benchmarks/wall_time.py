"""Wall time of the whole pipeline in a fresh clone, and of a second run with nothing changed.

    python benchmarks/wall_time.py demo     # or smoke; minutes

Baseline of the ratio: the first run, measured in the same process. Prints seconds by stage and peak memory too.
"""

import sys
import tempfile
from pathlib import Path

from project import clone, recorded, seconds

TARGETS = {"demo": ["reports/table3.csv"], "smoke": []}  # smoke: everything, pair sheets too


def main(preset: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = clone(Path(scratch) / "project", preset)
        command = ["snakemake", "--cores", "all", *TARGETS[preset]]
        first = seconds(folder, *command)
        second = seconds(folder, *command)
        by_dvc = seconds(folder, "dvc", "repro", *(["table3"] if TARGETS[preset] else []))
        print(f"{preset}: first run {first:.0f} s")
        print(f"nothing changed: snakemake {second:.1f} s ({second / first:.3f} of the first run), dvc {by_dvc:.1f} s")
        wall, memory = recorded(folder, "wall_s"), recorded(folder, "peak_memory_mb")
        print(f"{'stage':20} {'runs':>4} {'seconds':>8} {'peak MB':>8}")
        for stage in sorted(wall, key=lambda name: -sum(wall[name])):
            print(f"{stage:20} {len(wall[stage]):4d} {sum(wall[stage]):8.0f} {max(memory[stage]):8.0f}")
        print(f"{'all':20} {sum(map(len, wall.values())):4d} {sum(map(sum, wall.values())):8.0f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "smoke")
