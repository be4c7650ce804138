"""How long both engines take to see what there is to do, over the number of shards.

    python benchmarks/engine.py            # minutes; a curve in benchmarks/out/engine.png

The demo preset's run rows; every job's outputs are stand-ins of some bytes, entered into dvc.lock at once. For each
number of shards: `snakemake -n` of everything with all jobs stale, `snakemake -n` and `dvc status` with nothing stale.
Goal: each within 60 s. Baseline of the ratio: the same with no shards, in the same run.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from project import ENVIRONMENT, ROOT, clone, seconds

from pipeline.engine.ledger import Ledger

DIVISIONS = (  # shards of one job of each stage
    {},
    {"preprocess": 20},
    {"preprocess": 40, "sample": 2},
    {"preprocess": 100, "sample": 15},
)
GOAL_S = 60
WORLD = (
    "webvid/results_2M_train.csv", "webvid/videos/1.mp4", "ucf101/ucfTrainTestlist/trainlist01.txt",
    "ucf101/ucfTrainTestlist/testlist01.txt", "ucf101/UCF-101/1.avi", "imagebench/prompts.csv",
    "imagebench/images/1.png",
)  # fmt: skip


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        folder = clone(Path(scratch) / "project", "demo")
        entries = stand_in_outputs(folder)
        rows = sum(entry.name == "features" for entry in entries)
        print(f"{rows} run rows, {len(entries)} jobs; seconds of wall time")
        print(f"{'shards':>7} {'-n, all stale':>14} {'-n, idle':>9} {'dvc status':>11}")
        curves = []
        for division in DIVISIONS:
            shards = sum(division.get(short(entry.name), 0) for entry in entries)
            numbers = measure(folder, division, shards)
            curves.append((shards, *numbers))
            print(f"{shards:7d} {numbers[0]:14.1f} {numbers[1]:9.1f} {numbers[2]:11.1f}", flush=True)
        first, last = curves[0], curves[-1]
        ratios = ", ".join(f"{b / a:.2f}" for a, b in zip(first[1:], last[1:], strict=True))
        worst = max(max(curve[1:]) for curve in curves)
        print(f"{last[0]} shards against none: {ratios} times; worst {worst:.0f} s of {GOAL_S}")
        draw(curves)
        return int(worst > GOAL_S)


def short(stage: str) -> str:
    """The key of runtime.shards that divides a stage."""
    return stage.removesuffix("_ucf101").removesuffix("_imagebench").removesuffix("_real")


def stand_in_outputs(folder: Path) -> list:
    """Write an output of some bytes for every job, and enter all into dvc.lock."""
    entries = Ledger(folder).in_order()
    for number, entry in enumerate(entries):
        for path in entry.outputs:
            out = folder / path
            if out.suffix:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(f'{{"digest": {number}}}')
            elif entry.name != "world":
                out.mkdir(parents=True, exist_ok=True)
                (out / "part").write_text(str(number))
        if entry.name == "world":
            for path in WORLD:
                (folder / "data/world" / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / "data/world" / path).write_text(path)
    subprocess.run(["dvc", "commit", "--force", "--quiet"], cwd=folder, check=True, env=ENVIRONMENT)
    return entries


def measure(folder: Path, division: dict[str, int], shards: int) -> tuple[float, float, float]:
    """Seconds of a dry run with every job stale, of one with none, and of dvc status with none.

    The first must plan so many ``shards``.
    """
    from pipeline import presets

    tree = presets.preset(folder / "presets", "demo")
    tree["runtime"]["shards"].update(division)
    presets.write(tree, folder / "params.yaml")
    seconds(folder, "dvc", "status")  # fills the cache of hashes, as any earlier run has
    status, idle = seconds(folder, "dvc", "status"), seconds(folder, "snakemake", "-n", "--quiet", "all")
    assert not Ledger(folder).changes(), "it was not idle"
    tree["world"]["seed"] += 1
    presets.write(tree, folder / "params.yaml")
    log = folder.parent / "command.log"
    log.unlink()
    stale = seconds(folder, "snakemake", "-n", "--quiet", "rules")  # its table of jobs stays
    table = dict(re.findall(r"^(\w+_shard) +(\d+)$", log.read_text(), re.MULTILINE))  # it is printed twice
    planned = sum(map(int, table.values()))
    assert planned == shards, f"{planned} shards planned, not {shards}"
    shutil.rmtree(folder / ".snakemake/stale", ignore_errors=True)
    return stale, idle, status


def draw(curves: list[tuple]) -> None:
    """Write the growth as a curve."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    out = ROOT / "benchmarks/out/engine.png"
    out.parent.mkdir(exist_ok=True)
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for place, name in enumerate(("snakemake -n, all stale", "snakemake -n, idle", "dvc status, idle"), 1):
        axis.plot([curve[0] for curve in curves], [curve[place] for curve in curves], marker="o", label=name)
    axis.axhline(GOAL_S, color="grey", linestyle=":", label="goal")
    axis.set(xlabel="shards", ylabel="seconds", ylim=(0, None))
    axis.legend()
    figure.savefig(out, dpi=120)
    print(f"curve: {out.relative_to(ROOT)}")


if __name__ == "__main__":
    raise SystemExit(main())
