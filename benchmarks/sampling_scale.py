"""10,000 clips of one run row as shards of the real stage, with a stand-in for the network; one shard is killed.

    python benchmarks/sampling_scale.py [--clips 10000] [--shards 8]

Says what a clip costs beside the network (a part of two clips is written, brought to the disk and renamed), how long
the parts take to be joined and the samples to be opened, whether every clip is there once, and whether the killed
shard made any part again.
"""

import argparse
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from project import ROOT

from pipeline.data.schema import ClipSet, ClipWriter, encode_frames, part_file
from pipeline.engine.parts import Parts, Shard
from pipeline.evaluation.samples import read_manifest
from pipeline.stages import sample

FRAMES, SIZE, BATCH, SEEDS = 16, 32, 2, 40
AT_ONCE = 2


def write_conditions(folder: Path, count: int) -> None:
    folder.mkdir()
    frames = np.random.default_rng(0).integers(0, 255, (FRAMES, SIZE, SIZE, 3), np.uint8)
    with ClipWriter(folder / part_file(0)) as writer:
        for number in range(count):
            writer.add({
                "id": f"v_{number:05d}", "source": f"v_{number:05d}.avi", "caption": "a caption", "label": "label",
                "native_fps": 25.0, "fps": 3.0, "stride": 8, "requested_stride": 8, "start_frame": 0, "window": 0,
                "source_height": SIZE, "source_width": SIZE, "frames": encode_frames(frames), "decoder": "made",
                "transform": "",
            })  # fmt: skip


def stage_of(folder: Path, clips: int, shard: Shard) -> SimpleNamespace:
    """What the stage is given; paths that the network would be read from are None."""
    rule = SimpleNamespace(seed=0, conditions=clips // SEEDS, reference=1, allow_few=True, seeds=list(range(SEEDS)))
    return SimpleNamespace(
        args=SimpleNamespace(run="row", data="ucf101"),
        params=SimpleNamespace(
            runs={"row": SimpleNamespace(backbone="one")},
            backbones={"one": SimpleNamespace(sampling=SimpleNamespace(batch_size=BATCH, seed=0))},
            evaluation=rule,
        ),
        inputs=[None, None, None, folder / "clips"],
        outputs=[folder / "samples"],
        device="cpu",
        parts=Parts(folder / "parts", shard),
        record=SimpleNamespace(metrics=lambda values: None, artifact=None, params=lambda values: None),
        log=logging.getLogger("sampling"),
    )


def fake_batch(generator, encoders, clips, items, seed, device):
    """Noise of the clips' size."""
    random = np.random.default_rng([len(items), items[0].position, items[0].seed])
    return random.integers(0, 255, (len(items), FRAMES, SIZE, SIZE, 3), np.uint8), [{} for _ in items]


def make_shard(folder: Path, clips: int, shard: Shard) -> None:
    """One shard, in this process."""
    import pipeline.sampling.batch

    pipeline.sampling.batch.sample_batch = fake_batch
    sample._prepare = lambda stage, row: (SimpleNamespace(describe=lambda: {}), None, {"init": "standard"})
    sample.make_parts(stage_of(folder, clips, shard))


def begin(folder: Path, clips: int, shard: Shard) -> subprocess.Popen:
    command = [sys.executable, __file__, "--clips", str(clips), "--make", str(folder), "--shard", str(shard)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def measure(folder: Path, clips: int, shards: int) -> int:
    """Run all shards, kill one, join; returns how many things are wrong."""
    write_conditions(folder / "clips", clips // SEEDS + 1)
    victim = Shard(1, shards)
    process, own = begin(folder, clips, victim), Parts(folder / "parts", victim)
    while len(own.own()) < clips // BATCH // shards // 2:
        time.sleep(0.05)
    process.kill()
    process.wait()
    before = {path: path.stat().st_ino for path in own.own()}

    started, running, waiting = time.monotonic(), [], [Shard(number, shards) for number in range(shards)]
    while running or waiting:
        while waiting and len(running) < AT_ONCE:
            running.append(begin(folder, clips, waiting.pop(0)))
        assert running.pop(0).wait() == 0
    seconds = time.monotonic() - started
    remade = [path.name for path, inode in before.items() if path.stat().st_ino != inode]
    made = clips - BATCH * len(before)
    print(f"{clips} clips in {clips // BATCH} parts, {shards} shards; killed after {len(before)} of its parts")
    print(f"a clip beside the network: {1000 * AT_ONCE * seconds / made:.1f} ms of a core (at most: shared machine)")

    started = time.monotonic()
    sample.merge(stage_of(folder, clips, Shard()), clips // BATCH)
    print(f"joined in {time.monotonic() - started:.1f} s")
    started = time.monotonic()
    opened, manifest = ClipSet(folder / "samples"), read_manifest(folder / "samples")
    print(f"opened in {time.monotonic() - started:.1f} s")
    links = (folder / "samples" / part_file(0)).stat().st_nlink
    lacking = clips - len(set(opened.ids)), clips - len({entry["id"] for entry in manifest})
    print(f"clips lacking: {lacking[0]} (manifest: {lacking[1]}), rows: {len(opened)}, parts made again: "
          f"{len(remade)}, names of a part's file: {links}")  # fmt: skip
    return sum(lacking) + (len(opened) != clips) + len(remade)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shard", type=Shard.parse, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        make_shard(args.make, args.clips, args.shard)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        return measure(Path(scratch), args.clips, args.shards)


if __name__ == "__main__":
    raise SystemExit(main())
