"""Random kills over a real run, each resumed; a disk that is full for every stage's writer.

    python benchmarks/faults.py kills [--count 20] [--seed 0] [--target reports/table3.csv]
    python benchmarks/faults.py disk       # root: mounts a small file system

kills: the smoke preset undisturbed, then in another clone killed at random times: a stage's process, or Snakemake with
its jobs orphaned. Says whether checkpoints, samples, metrics and tables are those of the undisturbed run (content
hashes of every output in dvc.lock), whether anything finished was done again, and whether two processes ever wrote one
stage at once. disk: every stage of the smoke preset is first run with no space left, then with space.
"""

import argparse
import random
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
from project import ENVIRONMENT, clone
from ruamel.yaml import YAML

from pipeline.data.listings import read_listing
from pipeline.data.schema import read_rejects
from pipeline.engine.journal import read_journal
from pipeline.engine.ledger import Ledger
from pipeline.params.file import load_params

UNTRACKED = {**ENVIRONMENT, "PIPELINE_TRACKING": "off"}
BALLAST = "ballast"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "disk"])
    parser.add_argument("--count", type=int, default=20, help="kills")
    parser.add_argument("--seed", type=int, default=0, help="of times and victims")
    parser.add_argument("--target", default="reports/table3.csv")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if args.what == "kills":
            return kills(Path(scratch), args.count, random.Random(args.seed), args.target)
        return full_disk(Path(scratch))


def start(folder: Path, *command: str) -> subprocess.Popen:
    log = (folder.parent / f"{folder.name}.log").open("a")
    return subprocess.Popen(command, cwd=folder, env=UNTRACKED, stdout=log, stderr=subprocess.STDOUT)


def kills(scratch: Path, count: int, chance: random.Random, target: str) -> int:
    command = ["snakemake", "--cores", "2", target]
    whole = clone(scratch / "whole", "smoke")
    began = time.monotonic()
    assert start(whole, *command).wait() == 0, (scratch / "whole.log").read_text()[-3000:]
    seconds = time.monotonic() - began
    print(f"undisturbed: {seconds:.0f} s")
    broken = clone(scratch / "broken", "smoke")
    done, twice = Counter(), []
    while True:
        process = start(broken, *command)
        wanted = chance.choice(["a job", "Snakemake"]) if sum(done.values()) < count else None
        hit = disturb(process, wanted, 5 + chance.uniform(0, 2 * seconds / count), chance, twice)
        if process.poll() == 0:
            break
        done[hit or "nothing: it had failed by itself"] += hit is not None
        assert hit, (scratch / "broken.log").read_text()[-3000:]
        print(f"kill {sum(done.values())}: {hit}", flush=True)
    print(f"kills: {dict(done)}")
    return verdict(whole, broken, twice)


def disturb(process, wanted, after: float, chance, twice: list) -> str | None:
    """Let a run go on for ``after`` seconds, kill ``wanted``, wait for all its processes; returns what was killed."""
    deadline, hit, family = time.monotonic() + after, None, {}
    while process.poll() is None:
        running = psutil.Process(process.pid).children(recursive=True) if psutil.pid_exists(process.pid) else []
        family |= {child.pid: child for child in running}
        bodies = [child for child in running if stage_of(child)]
        names = Counter(stage_of(child) for child in bodies)
        twice += [name for name, number in names.items() if number > 1]
        if wanted and not hit and time.monotonic() > deadline and (bodies or wanted == "Snakemake"):
            victim = chance.choice(bodies) if wanted == "a job" else process
            hit = f"a job ({stage_of(victim)})" if wanted == "a job" else "Snakemake"
            victim.kill()
        time.sleep(0.1)
    psutil.wait_procs(list(family.values()), timeout=60)
    return hit.split(" (")[0] if hit else None


def stage_of(process: psutil.Process) -> str:
    """The stage command that a process is; empty for others."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return ""
    return " ".join(words[3:]) if words[1:3] == ["-m", "pipeline"] and len(words) > 3 else ""


def verdict(whole: Path, broken: Path, twice: list[str]) -> int:
    """Compare the two folders; prints what was found, returns how many things are wrong."""
    expected, found = locked(whole), locked(broken)
    different = sorted(name for name in expected if expected[name] != found.get(name))
    print(f"outputs as undisturbed: {len(expected) - len(different)} of {len(expected)} jobs {different or ''}")
    finished, again = set(), []
    for event in read_journal(broken):
        job = (event["address"], event["digest"])
        if event["event"] == "begun" and job in finished:
            again.append(event["address"])
        if event["event"] == "done":
            finished.add(job)
    print(f"finished jobs done again: {again or 'none'}; one stage written by two at once: {twice or 'never'}")
    lost = sum(rows_lost(folder) for folder in sorted((broken / "clips").iterdir()))
    print(f"rows of listings neither in clips nor in rejects, or in both: {lost}")
    partial = [str(path.relative_to(broken)) for path in broken.rglob(".*.partial*")]
    print(f"half-written files: {partial or 'none'}")
    return len(different) + len(again) + len(twice) + lost + len(partial)


def locked(folder: Path) -> dict[str, list]:
    """What dvc.lock says of every job's outputs."""
    stages = YAML(typ="safe").load((folder / "dvc.lock").read_text())["stages"]
    present = {name for name, entry in Ledger(folder).entries.items() if (folder / entry.outputs[0]).exists()}
    return {name: stage["outs"] for name, stage in stages.items() if name in present}


def rows_lost(clips: Path) -> int:
    """Row numbers missing or double among rejects and sources of one clips folder; its windows count once."""
    import pyarrow.parquet as pq

    project = clips.parents[1]
    spec = load_params(project / "params.yaml").clip_sets[clips.name]
    listing, videos = project / spec.listing, project / spec.videos
    rows = sum(1 for _ in read_listing(spec.layout, listing, videos, spec.columns, clips.name))
    windows = [window for path in clips.glob("part-*.parquet") for window in pq.read_table(path)["window"].to_pylist()]
    return abs(rows - windows.count(0) - len(read_rejects(clips)))


def full_disk(scratch: Path) -> int:
    """Every job of one row of each stage without space, then with."""
    mount = scratch / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3g", "tmpfs", str(mount)], check=True)
    wrong = 0
    try:
        folder = clone(mount / "project", "smoke")
        seen = set()
        for entry in Ledger(folder).in_order():
            single = ["dvc", "repro", "--quiet", "--single-item", entry.address]
            if entry.name not in seen:
                seen.add(entry.name)
                wrong += not fails_without_space(folder, mount, single, entry)
            assert start(folder, *single).wait() == 0, (mount / "project.log").read_text()[-3000:]
        print(f"{len(seen)} stages, {wrong} of them wrong")
    finally:
        subprocess.run(["umount", str(mount)], check=False)
    return wrong


def fails_without_space(folder: Path, mount: Path, command: list[str], entry) -> bool:
    """Run a job on a full disk: it must fail, say so, and leave nothing that looks finished."""
    ballast = mount / BALLAST
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(b"0" * (1 << 20))
        except OSError:
            pass
    log = mount.parent / "full.log"
    with log.open("w") as file:
        code = subprocess.run(command, cwd=folder, env=UNTRACKED, stdout=file, stderr=subprocess.STDOUT).returncode
    ballast.unlink()
    left = [path for path in entry.outputs if (folder / path).exists()]
    partial = list(folder.rglob(".*.partial*"))
    said = "o space left on" in log.read_text()
    good = code != 0 and said and not left and not partial
    print(f"{entry.address:55} exit {code}, says why: {said}, left: {left or partial or 'nothing'}", flush=True)
    return good


if __name__ == "__main__":
    raise SystemExit(main())
