"""Does a training step wait for its data? Latents of the paper's size on disk, the device simulated by a pause.

    python benchmarks/loader.py [--folder DIR] [--clips 256] [--steps 30]     # 4 GB of disk, 2 to 3 minutes

For each backbone of the paper preset: its latents in part files, the trainer's own reading and drawing (assemble), a
step of 0.3 s in which the processor is free, as it is while a GPU computes, and 8 clips a step. Baseline of each
row: the same reading between the steps instead of ahead of them, in the same run. `cold`: the files are put out of
the page cache first, so that this machine's disk is read; a shared file system may be slower. One process: `cores`
says what a node with several must have.
"""

import argparse
import json
import os
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from project import ROOT
from safetensors.torch import save_file

from pipeline import presets
from pipeline.backbones.registry import build_empty
from pipeline.data.latents import LatentSet, part_file, write_index, write_null
from pipeline.diffusion.schedules import make_schedule
from pipeline.training.order import passes, share
from pipeline.training.trainer import CLIPS_AHEAD, _read, batches_of

STEP, BATCH, ROWS = 0.3, 8, 64
GOAL = 0.01  # of the time, what a step may wait for data
LATENT, TOKENS, EMBEDDING, TEXT = (4, 16, 40, 64), (257, 1280), (1, 1024), (77, 1024)


def write(folder: Path, clips: int, pictures: int, tokens: torch.dtype) -> LatentSet:
    """A latents folder of the paper's shapes: noise, one part of it in every file."""
    folder.mkdir(parents=True)
    rows = min(ROWS, clips)
    half = {"image_tokens": (pictures, *TOKENS), "image_embedding": (pictures, *EMBEDDING), "text": TEXT}
    part = {name: torch.randn(rows, *shape, dtype=tokens) for name, shape in half.items()}
    part |= {name: torch.randn(rows, *LATENT) for name in ("mean", "logvar")} | {"fps": torch.full((rows,), 8.0)}
    ids = []
    for number in range(clips // rows):
        save_file(part, folder / part_file(number))
        ids.append([f"{number:05d}-{row:03d}" for row in range(rows)])
    write_null(folder, {"text": torch.zeros(TEXT)})
    write_index(folder, ids, {"vae_hash": "none", "encoders_hash": "none", "scaling_factor": 0.18215})
    return LatentSet(folder)


def forget(folder: Path) -> None:
    """Put the files out of the page cache."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def waits(read, settings, count: int, clips_ahead: int) -> tuple[list[float], float]:
    """Seconds that each step waited, and processor seconds a step."""
    found, used = [], time.process_time()
    cut = passes(share(BATCH, 0, 1), None)
    with closing(batches_of(read, settings, 0, cut, count, clips_ahead)) as batches:
        for _ in range(settings.steps):
            start = time.perf_counter()
            next(batches)
            found.append(time.perf_counter() - start)
            time.sleep(STEP)
    return found, (time.process_time() - used) / settings.steps


def measure(name: str, spec: dict, stored: dict, folder: Path, clips: int, steps: int) -> float:
    """Print a line for each way of reading; returns the largest part of the time that a step waits, reading ahead."""
    pictures = 16 if stored["picture_frames"] == "all" else 1
    latents = write(folder / name, clips, pictures, getattr(torch, stored["tokens"]))
    backbone, schedule = build_empty(spec["family"], spec["model"]), make_schedule(spec["process"])
    dropout = SimpleNamespace(**spec["finetune"]["dropout"])
    settings = SimpleNamespace(seed=0, steps=steps, batch_size=BATCH, dropout=dropout)
    read = partial(_read, backbone, schedule, latents, settings, pin=False)
    size = sum(path.stat().st_size for path in latents.folder.iterdir()) / clips / 1e6
    worst = 0.0
    for cache in ("cold", "warm"):
        for label, clips_ahead in (("between", 0), ("ahead", CLIPS_AHEAD)):
            if cache == "cold":
                forget(latents.folder)
                latents = LatentSet(latents.folder)
                read = partial(_read, backbone, schedule, latents, settings, pin=False)
            found, used = waits(read, settings, clips, clips_ahead)
            later = found[1:]
            part = sum(later) / (sum(later) + STEP * len(later))
            worst = max(worst, part if clips_ahead else 0.0)
            print(f"{name:14} {size:6.1f} {cache:5} {label:8} {100 * part:8.2f} {1000 * max(later):9.1f} "
                  f"{1000 * found[0]:9.0f} {used / STEP:6.2f}", flush=True)  # fmt: skip
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the latents are written; default: the temporary folder")
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--steps", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tree = json.loads(json.dumps(presets.preset(ROOT / "presets", "paper")))
    print(f"{args.steps} steps of {STEP} s, {BATCH} clips each, of {args.clips}")
    print(f"{'backbone':14} {'MB':>6} {'cache':5} {'reading':8} {'waits %':>8} {'worst ms':>9} {'first ms':>9} "
          f"{'cores':>6}")  # fmt: skip
    worst = []
    for name, spec in tree["backbones"].items():
        with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
            worst.append(measure(name, spec, tree["latents"][spec["latents"]], Path(scratch), args.clips, args.steps))
    print("MB: a clip on disk. waits: share of the time from the second step on; worst: longest wait among those; "
          "first: before the first step. cores: processor time over the time of the steps.")  # fmt: skip
    print(f"waits, reading ahead: at most {100 * max(worst):.2f} % (goal: {100 * GOAL:.0f} %)")
    return int(max(worst) > GOAL)


if __name__ == "__main__":
    raise SystemExit(main())
