"""Random kills over a real run, each resumed; a disk that is full for every stage's writer.

    python benchmarks/faults.py kills [--count 20] [--seed 0] [--target reports/table3.csv] [--slurm]
    python benchmarks/faults.py disk       # root: mounts a small file system

kills: the smoke preset undisturbed, then in another clone killed at random times: a stage's process, or Snakemake with
its jobs orphaned; with --slurm through the two nodes of tests/slurm (root), where orphans run on, and slurmd dies, too.
Says whether checkpoints, samples, metrics and tables are those of the undisturbed run (content
hashes of every output in dvc.lock), whether anything finished was done again, and whether two processes ever wrote one
stage at once. disk: every stage of the smoke preset is first run with no space left, then with space, then with room
for half of its output where that is large.
"""

import argparse
import contextlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
from project import ENVIRONMENT, ROOT, clone
from ruamel.yaml import YAML

from pipeline.data.listings import read_listing
from pipeline.data.schema import read_rejects
from pipeline.engine.journal import read_journal
from pipeline.engine.ledger import Ledger
from pipeline.params.file import load_params

UNTRACKED = {**ENVIRONMENT, "PIPELINE_TRACKING": "off"}
MUCH = 1 << 20  # bytes; DVC itself needs less to begin a job


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "disk"])
    parser.add_argument("--count", type=int, default=20, help="kills")
    parser.add_argument("--seed", type=int, default=0, help="of times and victims")
    parser.add_argument("--target", default="reports/table3.csv")
    parser.add_argument("--slurm", action="store_true", help="the disturbed run through Slurm")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if args.what == "kills":
            cluster = start_cluster(Path(scratch)) if args.slurm else None
            try:
                return kills(Path(scratch), args.count, random.Random(args.seed), args.target, cluster)
            finally:
                if cluster:
                    cluster.stop()
        return full_disk(Path(scratch))


def start(folder: Path, *command: str) -> subprocess.Popen:
    log = (folder.parent / f"{folder.name}.log").open("a")
    return subprocess.Popen(command, cwd=folder, env=UNTRACKED, stdout=log, stderr=subprocess.STDOUT)


def start_cluster(scratch: Path):
    """Two nodes on this machine."""
    sys.path.insert(0, str(ROOT))
    from tests.slurm.cluster import Cluster

    cluster = Cluster(scratch / "cluster")
    cluster.start()
    UNTRACKED["SLURM_CONF"] = str(cluster.conf)
    return cluster


def kills(scratch: Path, count: int, chance: random.Random, target: str, cluster) -> int:
    """As many runs as it takes for ``count`` kills; each goes on to its end. Returns how many things are wrong."""
    command = ["snakemake", "--cores", "2", target]
    whole = clone(scratch / "whole", "smoke")
    began = time.monotonic()
    assert start(whole, *command).wait() == 0, last_words(whole)
    seconds = time.monotonic() - began
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    victims = ["a job", "Snakemake"]
    if cluster:
        victims.append("slurmd")
        quick = ["--slurm-init-seconds-before-status-checks", "2"]
        command = ["snakemake", "--profile", "profiles/slurm", *quick, target]
    done, wrong, number = Counter(), 0, 0
    while done.total() < count:
        number += 1
        broken, twice = clone(scratch / f"broken{number}", "smoke"), []
        print(f"run {number}", flush=True)
        while True:
            process = start(broken, *command)
            wanted = chance.choice(victims) if done.total() < count else None
            hit = disturb(process, wanted, 10 + chance.uniform(0, seconds / 8), chance, twice, broken, cluster)
            if hit:
                done[hit] += 1
                print(f"kill {done.total()}: {hit}", flush=True)
            if process.poll() == 0:
                break
            assert hit, last_words(broken)
        wrong += verdict(whole, broken, twice)
    print(f"kills: {dict(done)} in {number} runs; {wrong} things wrong")
    return wrong


def last_words(folder: Path) -> str:
    """The end of what was printed in ``folder``."""
    return (folder.parent / f"{folder.name}.log").read_text()[-3000:]


def disturb(process, wanted, after: float, chance, twice: list, folder: Path, cluster) -> str | None:
    """Let a run go on for ``after`` seconds, kill ``wanted``, wait for what dies with it; returns what was killed."""
    deadline, hit = time.monotonic() + after, None
    while process.poll() is None:
        bodies = [each for each in psutil.process_iter() if stage_of(each, folder)]
        twice += [address for address, number in Counter(at_work(folder)).items() if number > 1]
        if wanted and not hit and time.monotonic() > deadline and (bodies or wanted != "a job"):
            hit = wanted
            if wanted == "slurmd":
                node = chance.choice(["node1", "node2"])
                cluster.kill_node(node)
                time.sleep(chance.uniform(0, 10))
                cluster.start_node(node)
            else:
                (chance.choice(bodies) if wanted == "a job" else process).kill()
        time.sleep(0.1)
    if not cluster:  # jobs of this host die with it; on nodes they go on, and the next run finds what they make
        psutil.wait_procs([each for each in psutil.process_iter() if stage_of(each, folder)], timeout=60)
    return hit


def stage_of(process: psutil.Process, folder: Path) -> str:
    """The job whose body a process in ``folder`` runs; empty for others."""
    try:
        words = process.cmdline()
        if len(words) < 4 or words[1] != "-m" or process.cwd() != str(folder):
            return ""
    except psutil.Error:
        return ""
    if words[2] == "pipeline":
        return " ".join(words[3:])
    return " ".join(words[3:]) if words[2] == "pipeline.engine.job" and "--elsewhere" in words else ""


def at_work(folder: Path) -> list[str]:
    """Jobs whose bodies processes that live have begun and not ended, by the journal."""
    begun = {}
    for event in read_journal(folder):
        if event["event"] == "begun":
            begun[event["process"]] = event["address"]
        else:
            begun.pop(event["process"], None)
    return [address for process, address in begun.items() if psutil.pid_exists(process)]


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
    """A job of each stage without space, with room for half of what it writes where that is much, and with space."""
    mount = scratch / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3g", "tmpfs", str(mount)], check=True)
    wrong, seen = 0, set()
    try:
        folder = clone(mount / "project", "smoke")
        for entry in Ledger(folder).in_order():
            single = ["dvc", "repro", "--quiet", "--single-item", entry.address]
            if new := entry.name not in seen:
                seen.add(entry.name)
                wrong += not fails_without_space(folder, mount, single, entry, 0)
            assert start(folder, *single).wait() == 0, last_words(folder)
            size = size_of(folder / path for path in entry.outputs)
            if new and size >= MUCH:
                wrong += not fails_without_space(folder, mount, [*single, "--force"], entry, size // 2)
                assert start(folder, *single).wait() == 0, last_words(folder)
        print(f"{len(seen)} stages, {wrong} things wrong")
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=False)
    return wrong


def size_of(outputs) -> int:
    """Bytes of files and folders."""
    files = (path for output in outputs for path in (output.rglob("*") if output.is_dir() else [output]))
    return sum(path.stat().st_size for path in files if path.is_file())


def fails_without_space(folder: Path, mount: Path, command: list[str], entry, free: int) -> bool:
    """Run a job with so many bytes free: it must fail, say so, and leave nothing that looks finished."""
    outputs = [folder / path for path in entry.outputs]
    for output in outputs:
        if output.is_dir():
            shutil.rmtree(output)
        output.unlink(missing_ok=True)
    ballast, log = mount / "ballast", mount.parent / "full.log"
    with ballast.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        file.truncate(max(0, file.tell() - free))
    with log.open("w") as file:
        code = subprocess.run(command, cwd=folder, env=UNTRACKED, stdout=file, stderr=subprocess.STDOUT).returncode
    ballast.unlink()
    left = [path.name for path in outputs if path.exists()] + [path.name for path in folder.rglob(".*.partial*")]
    said = "o space left on" in log.read_text()
    room = f"{free / 1e6:.1f} MB free" if free else "full"
    print(f"{entry.address:45} {room:14} exit {code}, says why: {said}, left: {left or 'nothing'}", flush=True)
    return code != 0 and said and not left


if __name__ == "__main__":
    raise SystemExit(main())
