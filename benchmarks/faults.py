"""Random kills over real runs, each resumed; a data folder that vanishes. (full_disk.py: disks that are full)

    python benchmarks/faults.py kills [--count 20] [--seed 0] [--target reports/table3.csv] [--slurm]
    python benchmarks/faults.py vanish

Both on the smoke preset with a data folder of its own, in which files are missing, damaged, listed twice. kills: once
undisturbed and undivided; then other clones, divided into shards, are killed at random times: a stage's process, or
Snakemake; with --slurm through the two nodes of tests/slurm (root), where jobs that are orphaned run on, and slurmd
dies, too. vanish: the folder goes away while shards read it, and comes back.
Says whether checkpoints, samples, metrics and tables are those of the undisturbed run (content hashes of every output
in dvc.lock), whether a job, shard or part that was finished was made again, whether two processes ever wrote one at
once, and whether every row of the listings is in clips or rejects.
"""

import argparse
import contextlib
import csv
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.parquet as pq
from project import ENVIRONMENT, ROOT, clone
from ruamel.yaml import YAML

from pipeline.data.listings import read_listing
from pipeline.data.schema import ClipSet, read_rejects
from pipeline.engine.journal import read_journal
from pipeline.engine.ledger import Ledger
from pipeline.params.file import load_params

UNTRACKED = {**ENVIRONMENT, "PIPELINE_TRACKING": "off"}
SETS = ("webvid_strided", "webvid_fixed")
OWN = {name: {"listing": "own/list.csv", "videos": "own/videos"} for name in SETS}
DIVIDED = dict.fromkeys(("preprocess", "latents", "moments", "sample", "features"), 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "vanish"])
    parser.add_argument("--count", type=int, default=20, help="kills")
    parser.add_argument("--seed", type=int, default=0, help="of times and victims")
    parser.add_argument("--target", default="reports/table3.csv")
    parser.add_argument("--slurm", action="store_true", help="the disturbed run through Slurm")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if args.what == "vanish":
            return vanish(Path(scratch))
        with started_cluster(Path(scratch)) if args.slurm else contextlib.nullcontext() as cluster:
            return kills(Path(scratch), args.count, random.Random(args.seed), args.target, cluster)


def start(folder: Path, *command: str) -> subprocess.Popen:
    log = (folder.parent / f"{folder.name}.log").open("a")
    return subprocess.Popen(command, cwd=folder, env=UNTRACKED, stdout=log, stderr=subprocess.STDOUT)


def last_words(folder: Path) -> str:
    """The end of what was printed in ``folder``."""
    return (folder.parent / f"{folder.name}.log").read_text()[-3000:]


def project(folder: Path, shards: dict[str, int], rows_per_part: int = 16) -> Path:
    """A clone with the smoke preset, whose WebVid lies in a folder that no job makes and has rows of all kinds."""
    changes = {"clip_sets": OWN, "clips": {"rows_per_part": rows_per_part}, "runtime": {"shards": shards}}
    clone(folder, "smoke", changes)
    assert start(folder, "dvc", "repro", "--quiet", "world").wait() == 0, last_words(folder)
    world, own = folder / "data/world/webvid", folder / "own"
    shutil.copytree(world / "videos", own / "videos")
    header, *rows = list(csv.reader((world / "results_2M_train.csv").open()))
    assert header[0] == "videoid" and header[3] == "page_dir", header
    names = ("gone", "empty", "text", "cut")
    rows += [[name, *rows[0][1:]] for name in names] + [rows[3]]  # the last: listed twice
    place = own / "videos" / rows[0][3]
    (place / "empty.mp4").touch()
    (place / "text.mp4").write_text("this is not a video")
    whole = (place / f"{rows[0][0]}.mp4").read_bytes()
    (place / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with (own / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return folder


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
    whole = project(scratch / "whole", {})
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
        broken, watch = project(scratch / f"broken{number}", DIVIDED), Watch()
        print(f"run {number}", flush=True)
        while True:
            process = start(broken, *command)
            hits = disturb(process, victims, seconds / 8, chance, watch, broken, cluster, count - done.total())
            done.update(hits)
            if hits:
                print(f"kills until {done.total()}: {', '.join(hits)}", flush=True)
            if process.poll() == 0:
                break
            assert hits, last_words(broken)
        wrong += verdict(whole, broken, watch)
    print(f"kills: {dict(done)} in {number} runs; {wrong} things wrong")
    return wrong


@dataclass
class Watch:
    """What was seen while a folder was disturbed."""

    twice: list[str] = field(default_factory=list)  # written by two processes at once
    remade: list[str] = field(default_factory=list)  # parts that were there before
    parts: dict[Path, int] = field(default_factory=dict)

    def look(self, folder: Path) -> None:
        """A part that is there with another inode than before was made again."""
        self.twice += [address for address, number in Counter(at_work(folder)).items() if number > 1]
        for path in folder.glob(".state/*/*/*/parts/[0-9]*"):
            with contextlib.suppress(FileNotFoundError):
                inode = path.stat().st_ino
                if self.parts.setdefault(path, inode) != inode:
                    self.remade.append(str(path.relative_to(folder)))
                    self.parts[path] = inode


def disturb(process, victims, pause: float, chance, watch: Watch, folder: Path, cluster, most: int) -> list[str]:
    """Kill one victim after another, with pauses of 10 s to ``pause`` more, ``most`` at most, until a run has ended.

    Waits for what dies with it; returns what was killed.
    """
    hits, wanted, deadline = [], chance.choice(victims), time.monotonic() + 10 + chance.uniform(0, pause)
    while process.poll() is None:
        bodies = [each for each in psutil.process_iter() if stage_of(each, folder)]
        watch.look(folder)
        if len(hits) < most and time.monotonic() > deadline and (bodies or wanted != "a job"):
            hits.append(wanted)
            if wanted == "slurmd":
                node = chance.choice(["node1", "node2"])
                cluster.kill_node(node)
                time.sleep(chance.uniform(0, 10))
                cluster.start_node(node)
            else:
                with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                    (chance.choice(bodies) if wanted == "a job" else process).kill()
            wanted, deadline = chance.choice(victims), time.monotonic() + 10 + chance.uniform(0, pause)
        time.sleep(0.1)
    if not cluster:  # jobs of this host die with it; on nodes they go on, and the next run finds what they make
        psutil.wait_procs([each for each in psutil.process_iter() if stage_of(each, folder)], timeout=60)
    return hits


def stage_of(process: psutil.Process, folder: Path) -> str:
    """The job whose body a process in ``folder`` runs; empty for others."""
    try:
        words = process.cmdline()
        if len(words) < 4 or words[1] != "-m" or process.cwd() != str(folder):
            return ""
    except psutil.Error:
        return ""
    return " ".join(words[3:]) if words[2] in ("pipeline", "pipeline.engine.job") else ""


def at_work(folder: Path) -> list[str]:
    """Jobs and shards whose bodies processes that live have begun and not ended, by the journal."""
    begun = {}
    for event in read_journal(folder):
        if event["event"] == "begun":
            begun[event["process"]] = event["address"]
        else:
            begun.pop(event["process"], None)
    return [address for process, address in begun.items() if psutil.pid_exists(process)]


def verdict(whole: Path, broken: Path, watch: Watch) -> int:
    """Compare the two folders; prints what was found, returns how many things are wrong."""
    again = done_again(broken)
    found = {
        "outputs other than undisturbed": different_outputs(whole, broken),
        "jobs whose outputs are not those of dvc.lock": sorted(set(Ledger(broken).changes()) & set(locked(whole))),
        "jobs done again": [name for name in again if "#" not in name],
        "parts made again": watch.remade,
        "written by two at once": watch.twice,
        "rows of listings not exactly once in clips or rejects": rows_lost(broken),
        "half-written files": [str(path.relative_to(broken)) for path in broken.rglob(".*.partial*")],
    }
    rejects = Counter(reject["reason"] for name in SETS for reject in read_rejects(broken / "clips" / name))
    print(f"{len(locked(whole))} jobs, {len(watch.parts)} parts, rejects {dict(rejects)}")
    print(f"  shards begun again (their parts below): {[name for name in again if '#' in name] or 'none'}")
    for what, things in found.items():
        print(f"  {what}: {things or 'none'}", flush=True)
    return sum(map(len, found.values()))


def different_outputs(whole: Path, broken: Path) -> list[str]:
    """Jobs whose outputs dvc.lock records otherwise than that of the undisturbed run."""
    expected, found = locked(whole), locked(broken)
    return sorted(name for name in expected if expected[name] != found.get(name))


def done_again(folder: Path) -> list[str]:
    """Jobs and shards that began after they were done, for the same parameters, inputs and code."""
    finished, again = set(), []
    for event in read_journal(folder):
        job = (event["address"], event["digest"])
        if event["event"] == "begun" and job in finished:
            again.append(event["address"])
        if event["event"] == "done":
            finished.add(job)
    return again


def locked(folder: Path) -> dict[str, list]:
    """What dvc.lock says of the outputs of every job that has run there."""
    stages = YAML(typ="safe").load((folder / "dvc.lock").read_text())["stages"]
    done = {event["address"] for event in read_journal(folder) if event["event"] in ("done", "taken")}
    return {name: stage["outs"] for name, stage in stages.items() if name in done}


def rows_lost(folder: Path) -> list[str]:
    """Rows of all listings that are not exactly once among the rejects and the sources of the clips folders."""
    return [row for clips in sorted((folder / "clips").iterdir()) for row in rows_lost_of(clips)]


def rows_lost_of(clips: Path) -> list[str]:
    """The same of one clips folder."""
    folder = clips.parents[1]
    spec = load_params(folder / "params.yaml").clip_sets[clips.name]
    listing, videos = folder / spec.listing, folder / spec.videos
    rows = Counter(row.source for row in read_listing(spec.layout, listing, videos, spec.columns, clips.name))
    kept = ClipSet(clips)
    rows.subtract(source for source, window in zip(kept.sources, windows_of(clips), strict=True) if window == 0)
    rows.subtract(reject["source"] for reject in read_rejects(clips))
    return [f"{clips.name}: {source}" for source, number in rows.items() if number]


def windows_of(clips: Path) -> list[int]:
    """The window of every clip, in order."""
    files = sorted(clips.glob("part-*.parquet"))
    return [window for file in files for window in pq.read_table(file, columns=["window"])["window"].to_pylist()]


def vanish(scratch: Path) -> int:
    """Move the data folder away when the first part is there, an empty one in its place; bring it back and go on."""
    targets = [f"clips/{name}" for name in SETS]
    whole, broken = project(scratch / "whole", {}, 4), project(scratch / "broken", {"preprocess": 3}, 4)
    watch = Watch()
    assert start(whole, "snakemake", "--cores", "2", *targets).wait() == 0, last_words(whole)
    videos, elsewhere = broken / "own/videos", scratch / "unmounted"
    process = start(broken, "snakemake", "--cores", "2", *targets)
    while not watch.parts:
        watch.look(broken)
        assert process.poll() is None, last_words(broken)
    videos.rename(elsewhere)
    videos.mkdir()
    code, logs = process.wait(), list(broken.glob("logs/preprocess/*/*.log"))
    said = [log for log in logs if "finished parts stay" in log.read_text().splitlines()[-1]]
    watch.look(broken)
    print(f"folder gone after {len(watch.parts)} parts: exit {code}, {len(said)} of {len(logs)} shards' logs say why")
    print("".join(f"  {log.name}: {log.read_text().splitlines()[-1]}\n" for log in logs), end="")
    videos.rmdir()
    elsewhere.rename(videos)
    assert start(broken, "snakemake", "--cores", "2", *targets).wait() == 0, last_words(broken)
    watch.look(broken)
    return (code == 0) + (not said) + verdict(whole, broken, watch)


if __name__ == "__main__":
    raise SystemExit(main())
