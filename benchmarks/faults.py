"""Random kills over a real run, each resumed; a disk that is full for every stage's writer.

    python benchmarks/faults.py kills [--count 20] [--seed 0] [--target reports/table3.csv] [--slurm]
    python benchmarks/faults.py disk       # root: mounts small file systems

kills: the smoke preset undisturbed, then in another clone killed at random times: a stage's process, or Snakemake with
its jobs orphaned; with --slurm through the two nodes of tests/slurm (root), where orphans run on, and slurmd dies, too.
Says whether checkpoints, samples, metrics and tables are those of the undisturbed run (content
hashes of every output in dvc.lock), whether anything finished was done again, and whether two processes ever wrote one
stage at once. disk: every stage of the smoke preset is run while the disk of its outputs is full, and that of its
state, then with space.
"""

import argparse
import contextlib
import importlib
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
from project import ENVIRONMENT, ROOT, clone
from ruamel.yaml import YAML

from pipeline.data.listings import read_listing
from pipeline.data.schema import ClipSet, read_rejects
from pipeline.engine.journal import read_journal
from pipeline.engine.ledger import Ledger
from pipeline.engine.outputs import remove
from pipeline.engine.receipts import state_of, sweep
from pipeline.params.file import load_params

UNTRACKED = {**ENVIRONMENT, "PIPELINE_TRACKING": "off"}
LARGE = 1 << 20  # bytes of outputs


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
            with started_cluster(Path(scratch)) if args.slurm else contextlib.nullcontext() as cluster:
                return kills(Path(scratch), args.count, random.Random(args.seed), args.target, cluster)
        return full_disk(Path(scratch))


def start(folder: Path, *command: str) -> subprocess.Popen:
    log = (folder.parent / f"{folder.name}.log").open("a")
    return subprocess.Popen(command, cwd=folder, env=UNTRACKED, stdout=log, stderr=subprocess.STDOUT)


@contextlib.contextmanager
def started_cluster(scratch: Path):
    """Two nodes on this machine."""
    sys.path.insert(0, str(ROOT))
    from tests.slurm.cluster import Cluster

    cluster = Cluster(scratch / "cluster")
    UNTRACKED["SLURM_CONF"] = str(cluster.conf)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


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
                with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
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
    return " ".join(words[3:]) if words[2] == "pipeline.engine.job" else ""


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
    unsettled = sorted(set(Ledger(broken).changes()) & set(expected))
    print(f"jobs whose outputs are not those of dvc.lock: {unsettled or 'none'}")
    finished, again = set(), []
    for event in read_journal(broken):
        job = (event["address"], event["digest"])
        if event["event"] == "begun" and job in finished:
            again.append(event["address"])
        if event["event"] == "done":
            finished.add(job)
    print(f"finished jobs done again: {again or 'none'}; one stage written by two at once: {twice or 'never'}")
    lost = [name for folder in sorted((broken / "clips").iterdir()) for name in rows_lost(folder)]
    print(f"rows of listings neither in clips nor in rejects, or more than once: {lost or 'none'}")
    partial = [str(path.relative_to(broken)) for path in broken.rglob(".*.partial*")]
    print(f"half-written files: {partial or 'none'}", flush=True)
    return sum(map(len, (different, unsettled, again, twice, lost, partial)))


def locked(folder: Path) -> dict[str, list]:
    """What dvc.lock says of the outputs of every job that has run there."""
    stages = YAML(typ="safe").load((folder / "dvc.lock").read_text())["stages"]
    done = {event["address"] for event in read_journal(folder) if event["event"] in ("done", "taken")}
    return {name: stage["outs"] for name, stage in stages.items() if name in done}


def rows_lost(clips: Path) -> list[str]:
    """Rows of one listing that are not exactly once among the rejects and the sources of a clips folder."""
    project = clips.parents[1]
    spec = load_params(project / "params.yaml").clip_sets[clips.name]
    listing, videos = project / spec.listing, project / spec.videos
    rows = Counter(row.source for row in read_listing(spec.layout, listing, videos, spec.columns, clips.name))
    kept, rejects = ClipSet(clips), read_rejects(clips)
    rows.subtract(source for source, window in zip(kept.sources, windows_of(clips), strict=True) if window == 0)
    rows.subtract(reject["source"] for reject in rejects)
    return [f"{clips.name}: {source}" for source, number in rows.items() if number]


def windows_of(clips: Path) -> list[int]:
    """The window of every clip, in order."""
    files = sorted(clips.glob("part-*.parquet"))
    return [window for file in files for window in pq.read_table(file, columns=["window"])["window"].to_pylist()]


def full_disk(scratch: Path) -> int:
    """A job of each stage while the disk of its outputs is full, then while that of its state is, then with space.

    Where the outputs are large, once more with room for half of them.
    """
    folder, wrong, seen = clone(scratch / "project", "smoke"), 0, set()
    ledger = Ledger(folder)
    for entry in ledger.in_order():
        single = ["dvc", "repro", "--quiet", "--single-item", entry.address]
        (outputs,) = {(folder / path).parent for path in entry.outputs}
        if new := entry.name not in seen:
            seen.add(entry.name)
            if outputs != folder:  # where DVC itself could not begin
                wrong += not fails_without_space(folder, outputs, single, entry, 0)
            if keeps_state(entry):
                wrong += not fails_without_space(folder, state_of(folder, entry), single, entry, 0)
        assert start(folder, *single).wait() == 0, last_words(folder)
        size = size_of(folder / path for path in entry.outputs)
        if new and size >= LARGE:
            sweep(Ledger(folder))  # else the job itself makes room by it
            wrong += not fails_without_space(folder, outputs, [*single, "--force"], entry, size // 2)
            assert start(folder, *single).wait() == 0, last_words(folder)
    print(f"{len(seen)} stages, {wrong} things wrong")
    return wrong


def keeps_state(entry) -> bool:
    """Whether a job writes parts or training states before its outputs."""
    stage = importlib.import_module(f"pipeline.stages.{entry.command.split()[3]}")
    return hasattr(stage, "make_parts") or entry.name in ("initialise", "finetune", "claims_seed")


def size_of(outputs) -> int:
    """Bytes of files and folders."""
    files = (path for output in outputs for path in (output.rglob("*") if output.is_dir() else [output]))
    return sum(path.stat().st_size for path in files if path.is_file())


def fails_without_space(folder: Path, place: Path, command: list[str], entry, free: int) -> bool:
    """Run a job with so many bytes free in ``place``; whether it began, failed, said so, and left nothing."""
    outputs, log = [folder / path for path in entry.outputs], folder.parent / "full.log"
    for output in outputs:
        remove(output)
    begun = len(read_journal(folder))
    with small_disk(place, free), log.open("w") as file:
        code = subprocess.run(command, cwd=folder, env=UNTRACKED, stdout=file, stderr=subprocess.STDOUT).returncode
        left = [path.name for path in outputs if path.exists()] + [path.name for path in folder.rglob(".*.partial*")]
        began = len(read_journal(folder)) > begun
    said = "o space left on" in log.read_text()
    room = f"{place.relative_to(folder)}, {free / 1e6:.1f} MB free"
    verdict = f"began: {began}, exit {code}, says why: {said}, left: {left or 'nothing'}"
    print(f"{entry.address:40} {room:45} {verdict}", flush=True)
    return began and code != 0 and said and not left


@contextlib.contextmanager
def small_disk(place: Path, free: int) -> Iterator[None]:
    """What lies in the folder ``place``, on a file system of its own with so many bytes left."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as other:
        size = size_of([place]) + (64 << 20)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", other], check=True)
        try:
            subprocess.run(["cp", "--archive", f"{place}/.", other], check=True)
            with (Path(other) / "ballast").open("wb", buffering=0) as file:
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(1 << 16))
                file.truncate(max(0, file.tell() - free))
            subprocess.run(["mount", "--bind", other, place], check=True)
            try:
                yield
            finally:
                subprocess.run(["umount", place], check=True)
        finally:
            subprocess.run(["umount", other], check=True)


if __name__ == "__main__":
    raise SystemExit(main())
