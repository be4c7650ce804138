"""Preprocessing's throughput a core, beside three other ways to the same frames, and where its time goes.

    python benchmarks/preprocess.py --real ../shared/data --made /tmp/made [--count 500]     # half an hour

Most of that time goes into making the videos, once: they stay in the folder.
CPU seconds a clip of 16 frames at the paper's settings, all ways in turn on each video, in one process on one thread:
ours (what a worker does: open, decode, resize, JPEG, Parquet); decord alone (the same frames at full size, nothing
else); the released code's way (decord at full size, get_batch, resize and crop in float by torch, nothing stored);
ffmpeg doing our job (seek, decode, scale by area, crop, JPEG files; the start of its process counts).
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from project import ROOT
from webvid_like import make_set

from pipeline import presets
from pipeline.data import decode, frames, schema
from pipeline.data.decode import ClipRule
from pipeline.data.listings import Row
from pipeline.data.preprocess import take_clips

WEBVID = 2_500_000  # clips
WAYS = ("ours", "decord alone", "released way", "ffmpeg")
GOALS = {"decord alone": 0.75, "released way": 1.8}


class Steps:
    """CPU seconds by step of our own code, measured where it runs; a step inside another is taken off that one."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner, self._counting = [0.0], False
        for owner, name, step in (
            (frames.Video, "__init__", "open and index"), (frames.Video, "read", "seek and decode"),
            (frames.Video, "_pixels", "to RGB"), (decode, "_fitted", "resize and crop"),
            (schema, "encode_frames", "encode JPEG"), (schema.ClipWriter, "add", "write Parquet"),
            (schema.ClipWriter, "__exit__", "write Parquet"),
        ):  # fmt: skip
            setattr(owner, name, self._timed(getattr(owner, name), step))

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Outside of it nothing is measured."""
        self._counting = True
        try:
            yield
        finally:
            self._counting = False

    def _timed(self, function: Callable, step: str) -> Callable:
        def run(*args, **kwargs):
            if not self._counting:
                return function(*args, **kwargs)
            self._inner.append(0.0)
            started = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.process_time() - started
                self.seconds[step] += spent - self._inner.pop()
                self._inner[-1] += spent

        return run


def paper_rule() -> ClipRule:
    """The paper's clips: 16 frames of 320 x 512, strides 1 to 6, as its preset says."""
    tree = presets.preset(ROOT / "presets", "paper")
    clips, spec = tree["clips"], tree["clip_sets"]["webvid_strided"]
    return ClipRule(
        seed=0, frames=clips["frames"], height=clips["height"], width=clips["width"], windows=1, kind="uniform_stride",
        stride_min=spec["frame_rule"]["min"], stride_max=spec["frame_rule"]["max"], fps=0.0, check=clips["check"],
        codec=clips["codec"]["format"], quality=clips["codec"]["quality"],
    )  # fmt: skip


def by_decord(path: Path, numbers: list[int], threads: int = 1) -> np.ndarray:
    import decord  # after OpenCV, whose PNG its zlib would break

    return decord.VideoReader(str(path), num_threads=threads).get_batch(numbers).asnumpy()


def by_released_way(path: Path, numbers: list[int], rule: ClipRule):
    """(3, F, H, W) in [-1, 1]: torchvision's Resize of the short side, which is this interpolation, and a centre crop.

    In a loader's worker, where torch computes on one thread; decord takes as many as it likes.
    """
    import torch

    video = torch.tensor(by_decord(path, numbers, threads=0)).permute(3, 0, 1, 2).float()
    height, width = video.shape[2:]
    scale = max(rule.height / height, rule.width / width)
    size = (max(rule.height, round(height * scale)), max(rule.width, round(width * scale)))
    video = torch.nn.functional.interpolate(video, size=size, mode="bilinear", align_corners=False)
    top, left = (size[0] - rule.height) // 2, (size[1] - rule.width) // 2
    video = video[:, :, top : top + rule.height, left : left + rule.width]
    return (video / 255 - 0.5) * 2


def shown_at(path: Path, number: int) -> float:
    """Seconds, between a frame and the one before it: frames need not be equally far apart."""
    import av

    with av.open(str(path)) as file:
        stream = file.streams.best("video")
        times = sorted(packet.pts for packet in file.demux(stream) if packet.pts is not None)
        return float((times[number] + times[max(number - 1, 0)]) / 2 - times[0]) * float(stream.time_base)


def by_ffmpeg(path: Path, start: float, stride: int, rule: ClipRule, folder: Path) -> float:
    """CPU seconds of its process; ``start`` in seconds."""
    cover = f"scale={rule.width}:{rule.height}:force_original_aspect_ratio=increase:flags=area"
    filters = f"select='not(mod(n,{stride}))',{cover},crop={rule.width}:{rule.height}"
    command = [
        "ffmpeg", "-v", "error", "-nostdin", "-y", "-threads", "1", "-ss", f"{start:.6f}", "-i", str(path),
        "-an", "-sn", "-vf", filters, "-filter_threads", "1", "-vsync", "0", "-frames:v", str(rule.frames),
        "-pix_fmt", "yuvj420p", "-q:v", "2", "-threads", "1", str(folder / "%02d.jpg"),
    ]  # fmt: skip
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status or len(list(folder.glob("*.jpg"))) != rule.frames:
        raise RuntimeError(f"ffmpeg gave {len(list(folder.glob('*.jpg')))} frames of {path}")
    return usage.ru_utime + usage.ru_stime


def spent(work: Callable) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def psnr(stored: list[bytes], wanted: np.ndarray) -> float:
    """Decibels of stored frames against the decoded and resized ones, over a clip."""
    error = schema.decode_frames(stored).astype(np.float64) - wanted
    return float(10 * np.log10(255**2 / np.mean(error**2)))


class Measured:
    """Every way on every video of a set."""

    def __init__(self, title: str, steps: Steps, rule: ClipRule, scratch: Path):
        self.title, self._steps, self._rule, self._scratch = title, steps, rule, scratch
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.psnr: list[float] = []
        self.skipped: list[str] = []
        self.jpeg_bytes = self.parquet_bytes = 0
        self.end = 0.0  # CPU seconds of closing the Parquet file

    def add(self, path: Path, draw: int, writer: schema.ClipWriter) -> None:
        """One clip of one video; ``draw`` decides which."""
        path.read_bytes()  # nobody waits for the disk
        rule, taken = replace(self._rule, seed=draw), []
        with self._steps.counting():
            ours = spent(lambda: taken.append(take_clips(Row(0, path.stem, path.name, ""), path.parent, rule, False)))
            (answer,) = taken
            if isinstance(answer, tuple):
                self.skipped.append(f"{path.name} ({answer[0]})")
                return
            (clip,) = answer
            ours += spent(lambda: writer.add(clip))
        numbers = [clip["start_frame"] + clip["stride"] * k for k in range(rule.frames)]
        self.seconds["ours"].append(ours)
        decoded = []
        self.seconds["decord alone"].append(spent(lambda: decoded.append(by_decord(path, numbers))))
        self.seconds["released way"].append(spent(lambda: by_released_way(path, numbers, rule)))
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            start = shown_at(path, clip["start_frame"])
            self.seconds["ffmpeg"].append(by_ffmpeg(path, start, clip["stride"], rule, Path(folder)))
        wanted = decode.resize_and_crop(decoded[0], rule.height, rule.width)
        self.psnr.append(psnr(clip["frames"], wanted))
        self.jpeg_bytes += sum(map(len, clip["frames"]))

    @property
    def clips(self) -> int:
        return len(self.seconds["ours"])

    def mean(self, way: str) -> float:
        """CPU seconds a clip."""
        return (sum(self.seconds[way]) + (self.end if way == "ours" else 0.0)) / self.clips

    def show(self) -> None:
        print(f"\n{self.title}: {self.clips} clips" + (f"; without {', '.join(self.skipped)}" if self.skipped else ""))
        print(f"{'CPU of a way':16} {'ms a clip':>10} {'median':>8} {'clips/s':>8} {'ours is':>9}")
        for way in WAYS:
            mean, median = self.mean(way), statistics.median(self.seconds[way])
            ratio, goal = mean / self.mean("ours"), GOALS.get(way)
            verdict = f"  goal {goal}: {'met' if ratio >= goal else 'MISSED'}" if goal else ""
            print(f"{way:16} {1e3 * mean:10.1f} {1e3 * median:8.1f} {1 / mean:8.2f} {ratio:8.2f}x{verdict}")
        total = self.mean("ours")
        print(f"{'where ours goes':16} {'ms a clip':>10} {'share':>8}")
        steps = {step: value / self.clips for step, value in self._steps.seconds.items()}
        for step, value in [*steps.items(), ("the rest", total - sum(steps.values()))]:
            print(f"{step:16} {1e3 * value:10.1f} {value / total:8.0%}")
        parquet, jpeg = (size / self.clips / 1e6 for size in (self.parquet_bytes, self.jpeg_bytes))
        print(f"a clip: {parquet:.3f} MB in Parquet ({jpeg:.3f} MB of JPEG)")
        print(f"PSNR of stored frames: {statistics.mean(self.psnr):.1f} dB (least {min(self.psnr):.1f})")

    def estimate(self) -> None:
        hours = self.mean("ours") * WEBVID / 3600
        size = self.parquet_bytes / self.clips * WEBVID / 1e12
        print(f"{WEBVID:,} such clips: {hours:,.0f} core hours, {size:.2f} TB")


def measure(title: str, videos: list[Path], draws: int, steps: Steps, rule: ClipRule, scratch: Path) -> Measured:
    """``draws`` clips of each video."""
    measured, file = Measured(title, steps, rule, scratch), scratch / "part.parquet"
    with schema.ClipWriter(scratch / "warm.parquet") as warm:  # imports and first calls are not the clips'
        Measured(title, steps, rule, scratch).add(videos[0], 0, warm)
    steps.seconds.clear()
    writer = schema.ClipWriter(file)
    for draw in range(draws):
        for path in videos:
            measured.add(path, draw, writer)
    with steps.counting():
        measured.end = spent(lambda: writer.__exit__(None, None, None))
    measured.parquet_bytes = file.stat().st_size
    measured.show()
    return measured


def main(args: argparse.Namespace) -> None:
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    steps, rule = Steps(), paper_rule()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        print(f"{rule.frames} frames of {rule.height} x {rule.width}, strides {rule.stride_min} to {rule.stride_max}, "
              f"check: {rule.check}, {rule.codec} {rule.quality}")  # fmt: skip
        if args.real:
            real = sorted(args.real.glob("webvid/videos/*/*.mp4")) + sorted(args.real.glob("ucf101/UCF-101/*/*.avi"))
            measure(f"real videos below {args.real.name}", real, args.draws, steps, rule, scratch).estimate()
        if args.made:
            made = make_set(args.made, args.count, args.workers)
            measure("videos of WebVid's usual kind", made, 1, steps, rule, scratch).estimate()


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="folder of the project's sample data")
    parser.add_argument("--draws", type=int, default=5, help="clips of each real video (default 5)")
    parser.add_argument("--made", type=Path, help="folder that keeps the made videos")
    parser.add_argument("--count", type=int, default=500, help="made videos (default 500)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that make them")
    if shutil.which("ffmpeg") is None:
        parser.error("ffmpeg is not installed (Debian: apt-get install ffmpeg)")
    main(parser.parse_args())
